-- The devices whose time to be looked at has come, the longest first.
-- KEYS due
-- ARGV most devices
-- Gives {now, "<device> <user>", ...}
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return {now, unpack(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1]))}
