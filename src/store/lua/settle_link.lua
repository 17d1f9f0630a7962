-- Ends the registration of a link's device: the device exists, or the link awaits another decision.
-- KEYS link, open
-- ARGV link, device, "approved" or "pending"
local is = redis.call('HMGET', KEYS[1], 'state', 'device', 'over', 'share', 'neighbourhood')
if is[1] ~= 'approving' or is[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
if ARGV[3] == 'pending' then
  redis.call('HDEL', KEYS[1], 'user', 'main', 'said', 'history', 'device')
  local waiting = { KEYS[2] }
  -- The places of the share and of the neighbourhood, on the same slot. A link of an older build lacks one, or both.
  for place = 4, 5 do
    if is[place] then table.insert(waiting, is[place]) end
  end
  for _, open in ipairs(waiting) do
    redis.call('ZADD', open, is[3], ARGV[1])
    if redis.call('PEXPIRETIME', open) < tonumber(is[3]) then redis.call('PEXPIREAT', open, is[3]) end
  end
end
return 1
