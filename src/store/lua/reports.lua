-- Returns the reports that haven't expired: {edge, figures, ...}
-- KEYS reports
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local live = {}
for i = 1, #all, 2 do
  local till, figures = string.match(all[i + 1], '^(%d+) (.*)$')
  if till and tonumber(till) > now then
    live[#live + 1] = all[i]
    live[#live + 1] = figures
  end
end
return live
