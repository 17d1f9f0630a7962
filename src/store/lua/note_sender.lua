-- Notes that an edge appends to a chat.
-- KEYS edges, counts, notes
-- ARGV edge, chat
if redis.call('SADD', KEYS[3], ARGV[2]) == 1 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return 1
