#!lua flags=allow-oom
-- Raises a device's fence in one chat above any session, if it is subscribed there: the chat refuses its acks.
-- KEYS from, fence
-- ARGV device
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], '9007199254740992')
end
return 1
