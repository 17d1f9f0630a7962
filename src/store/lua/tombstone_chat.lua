#!lua flags=allow-oom
-- Makes sure that an id without a chat never gets one: a caller about to create the chat finds the id taken.
-- KEYS meta
-- ARGV now, milliseconds
-- Returns 1 if there is no chat (any more), 0 if there is one
if redis.call('HEXISTS', KEYS[1], 'kind') == 0 and redis.call('HEXISTS', KEYS[1], 'deleted') == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'deleted', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('HEXISTS', KEYS[1], 'deleted')
