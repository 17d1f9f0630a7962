-- Moves a chat to another nsqd if it is still at the expected one.
-- KEYS meta
-- ARGV from, to
-- Returns 1 if it is there now
local node = redis.call('HGET', KEYS[1], 'node')
if node == ARGV[2] then return 1 end
if node ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'node', ARGV[2])
return 1
