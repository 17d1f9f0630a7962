-- Makes sure that for a while no chat comes to be with an id that has none, so that its entry in the index can go, however
-- late that is executed: the while begins anew with each call. Whoever creates the chat meanwhile is asked to try again.
-- KEYS meta
-- ARGV now, milliseconds
-- Gives 1 when there is no chat, 0 when there is one
if redis.call('HEXISTS', KEYS[1], 'kind') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'deleted') == 0 then
  redis.call('HSET', KEYS[1], 'unborn', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
