-- Stores an edge's report, for a while; deletes expired reports.
-- KEYS reports
-- ARGV edge, milliseconds, figures
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = now + ARGV[2]
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, figures = string.match(all[i + 1], '^(%d+) (.*)$')
  if not till or tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif tonumber(till) > most + 60000 then
    -- The clock was set back since. (Edges may have different durations.)
    redis.call('HSET', KEYS[1], all[i], string.format('%.0f ', most) .. figures)
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', most) .. ARGV[3])
