#!lua flags=allow-oom
-- Moves cursors forward, never above the head. Each moves only for a session that no newer one has followed, and only
-- in the membership that the session attached in.
-- KEYS meta, from, cursor, fence
-- ARGV device, session, from, seq; device, session, from, seq; ...
-- Returns for each the cursor now, or -1 if it was refused
local head = tonumber(redis.call('HGET', KEYS[1], 'head') or 0)
local devices = {}
for i = 1, #ARGV, 4 do devices[#devices + 1] = ARGV[i] end
local from = redis.call('HMGET', KEYS[2], unpack(devices))
local cursor = redis.call('HMGET', KEYS[3], unpack(devices))
local fence = redis.call('HMGET', KEYS[4], unpack(devices))
local stands, moved, answer = {}, {}, {}
for i, device in ipairs(devices) do
  if from[i] ~= ARGV[4 * i - 1] or tonumber(fence[i] or 0) > tonumber(ARGV[4 * i - 2]) then
    answer[i] = '-1'
  else
    local at = stands[device] or tonumber(cursor[i] or from[i])
    local to = math.min(tonumber(ARGV[4 * i]), head)
    if to > at then
      at = to
      moved[#moved + 1] = device
      moved[#moved + 1] = string.format('%.0f', at)
    end
    stands[device] = at
    answer[i] = string.format('%.0f', at)
  end
end
if #moved > 0 then redis.call('HSET', KEYS[3], unpack(moved)) end
return answer
