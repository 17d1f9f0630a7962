-- Notes a session that an edge has, or is about to have. So it lives.
-- KEYS edges, counts, notes
-- ARGV edge, what
-- Gives 1 when it wasn't noted yet
local new = redis.call('SADD', KEYS[3], ARGV[2])
if new == 1 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return new
