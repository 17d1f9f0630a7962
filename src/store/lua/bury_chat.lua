-- Makes sure that an id that no chat has will never be one: whoever was about to create it finds it taken.
-- KEYS meta
-- ARGV now
-- Gives 1 when there is no chat (any more), 0 when there is one
if redis.call('HEXISTS', KEYS[1], 'kind') == 0 and redis.call('HEXISTS', KEYS[1], 'deleted') == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'deleted', ARGV[1])
end
return redis.call('HEXISTS', KEYS[1], 'deleted')
