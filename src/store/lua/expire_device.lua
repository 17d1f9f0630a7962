-- Fences a device that nobody has seen, if it still is as it was when that was decided: `terminating`, and the next
-- generation.
-- KEYS devices
-- ARGV device, state, when it was seen
-- Gives 1 when it is fenced now
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.seen', d .. '.edge', d .. '.until')
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] then return 0 end
local time = redis.call('TIME')
if is[3] and tonumber(is[4]) > time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
redis.call('HSET', KEYS[1], d .. '.state', 'terminating')
redis.call('HINCRBY', KEYS[1], d .. '.generation', 1)
return 1
