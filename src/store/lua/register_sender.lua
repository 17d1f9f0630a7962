-- Registers a chat to which an edge appends, with a token that is new each time: a caller that read an older token
-- can't delete the registration. The call counts as a heartbeat.
-- KEYS edges, counts, notes, tokens, last token
-- ARGV edge, chat
-- Returns the token
if redis.call('SADD', KEYS[3], ARGV[2]) == 1 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
local token = redis.call('INCR', KEYS[5])
redis.call('HSET', KEYS[4], ARGV[2], token)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return token
