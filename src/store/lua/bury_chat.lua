-- Makes sure that an id that no chat has will never be one: whoever was about to create it finds it taken.
-- KEYS meta
-- ARGV now
-- Gives 1 when there is no chat (any more), 0 when there is one
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], 'deleted', ARGV[1]) end
return redis.call('HEXISTS', KEYS[1], 'deleted')
