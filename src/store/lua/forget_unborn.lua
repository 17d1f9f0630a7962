#!lua flags=allow-oom
-- Makes sure that for a while no chat can be created with an id that has none, so that its index entry can be deleted,
-- even by a late call: each call starts the while again. A caller that creates the chat meanwhile is asked to retry.
-- KEYS meta
-- ARGV now, milliseconds
-- Returns 1 if there is no chat, 0 if there is one
if redis.call('HEXISTS', KEYS[1], 'kind') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'deleted') == 0 then
  redis.call('HSET', KEYS[1], 'unborn', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
