-- Bars another user from putting this user into a chat, for a while.
-- KEYS bar, answers
-- ARGV milliseconds
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return redis.call('INCR', KEYS[2])
