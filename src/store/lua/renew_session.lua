-- Holds the device longer, if this session still has it. Also moves the time it was last seen.
-- KEYS devices
-- ARGV device, session, milliseconds
-- Gives nil (no such device, or none that had this session yet: an older copy of the data), "terminated", "replaced" or
-- "held"
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.session', d .. '.edge')
if not is[1] then return false end
if is[1] == 'terminating' then return 'terminated' end
if tonumber(is[2]) < tonumber(ARGV[2]) then return false end
if is[2] ~= ARGV[2] or not is[3] then return 'replaced' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], d .. '.until', string.format('%.0f', now + ARGV[3]), d .. '.seen', string.format('%.0f', now))
return 'held'
