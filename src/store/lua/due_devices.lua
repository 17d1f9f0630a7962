-- Returns the devices whose check is due, the longest overdue first: {now, "<device> <user>", ...}
-- KEYS due
-- ARGV most devices
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return {now, unpack(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1]))}
