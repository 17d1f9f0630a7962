-- Removes a chat from a user's list, with the user's read offset in it and who put them there, unless it was added
-- again since the token was read.
-- KEYS chats, read, put
-- ARGV chat, token
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
