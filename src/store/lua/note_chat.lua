-- Notes a chat to which an edge appends, with a token that is new each time: whoever read an older one can't forget it. So the
-- edge lives.
-- KEYS edges, counts, notes, tokens, last token
-- ARGV edge, chat
-- Gives the token
if redis.call('SADD', KEYS[3], ARGV[2]) == 1 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
local token = redis.call('INCR', KEYS[5])
redis.call('HSET', KEYS[4], ARGV[2], token)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return token
