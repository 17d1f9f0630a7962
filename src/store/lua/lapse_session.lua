-- Gives back a lease that has run out, for a session whose edge is gone.
-- KEYS devices
-- ARGV device, session
-- Gives "held" (it hasn't run out), nil (given back, another session's, or no such device) or when the device was last seen
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.session', d .. '.edge', d .. '.until', d .. '.seen')
if is[1] ~= ARGV[2] or not is[2] then return false end
local time = redis.call('TIME')
if tonumber(is[3]) > time[1] * 1000 + math.floor(time[2] / 1000) then return 'held' end
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.until')
return is[4]
