-- Takes a chat off a user's list, and what they have read of it with it, unless it was put there again since the token was
-- read.
-- KEYS chats, read
-- ARGV chat, token
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
