#!lua flags=allow-oom
-- Releases the device if it is this session's. That uses up the session number: a late confirmation finds a higher
-- one.
-- KEYS devices
-- ARGV device, session
-- Returns 1 if the session had the device
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.session', d .. '.edge')
if is[1] ~= ARGV[2] then return 0 end
redis.call('HINCRBY', KEYS[1], d .. '.session', 1)
if not is[2] then return 0 end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.incarnation', d .. '.until')
redis.call('HSET', KEYS[1], d .. '.seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
