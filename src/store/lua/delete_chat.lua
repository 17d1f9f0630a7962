-- Removes a chat that has no members. What stays is a mark that keeps its id from being used again: clients, NSQ and the
-- users' read offsets may still know the old chat by it.
-- KEYS meta, members, then all others of the chat
-- ARGV now
-- Gives nil when it has members, else what meta was, as a flat list
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local was = redis.call('HGETALL', KEYS[1])
if #was == 0 then return was end
redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', KEYS[1], 'deleted', ARGV[1])
return was
