#!lua flags=allow-oom
-- Registers a session that an edge has, or is about to have. The call counts as a heartbeat.
-- KEYS edges, counts, notes
-- ARGV edge, what
-- Returns 1 if it wasn't registered yet
local new = redis.call('SADD', KEYS[3], ARGV[2])
if new == 1 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return new
