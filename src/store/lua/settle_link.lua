-- The registration of a link's device came to its end: it is there, or the link waits for another decision.
-- KEYS link, open
-- ARGV link, device, "approved" or "pending"
local is = redis.call('HMGET', KEYS[1], 'state', 'device', 'over')
if is[1] ~= 'approving' or is[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
if ARGV[3] == 'pending' then
  redis.call('HDEL', KEYS[1], 'user', 'main', 'said', 'history', 'device')
  redis.call('ZADD', KEYS[2], is[3], ARGV[1])
  if redis.call('PEXPIRETIME', KEYS[2]) < tonumber(is[3]) then redis.call('PEXPIREAT', KEYS[2], is[3]) end
end
return 1
