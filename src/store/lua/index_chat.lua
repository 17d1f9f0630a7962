-- Adds a chat to a user's list, with a new token even if it is there: a caller that read the older token can't remove
-- it.
-- KEYS chats
-- ARGV chat, token, most chats
-- Returns 0 if the list is full
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
