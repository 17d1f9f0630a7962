-- Takes a chat off a user's list, unless it was put there again since the token was read.
-- KEYS chats
-- ARGV chat, token
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
