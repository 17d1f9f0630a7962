-- Gives the lease back, if it is this session's. The number stays: the next session gets a higher one.
-- KEYS devices
-- ARGV device, session
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.session', d .. '.edge')
if is[1] ~= ARGV[2] or not is[2] then return 0 end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.until')
redis.call('HSET', KEYS[1], d .. '.seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
