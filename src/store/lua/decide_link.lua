-- Decides a link, once.
-- KEYS link, open
-- ARGV link, user, main, "approving" or "refused", history or "", device
-- Returns nil (gone), "otherwise", or the id of the link's device
local is = redis.call('HMGET', KEYS[1], 'state', 'over', 'bound', 'user', 'main', 'said', 'history', 'device', 'share',
  'neighbourhood')
if not is[1] or (is[3] ~= '' and is[3] ~= ARGV[2]) then return false end
if is[1] ~= 'pending' then
  if is[4] ~= ARGV[2] then return false end
  if is[5] ~= ARGV[3] or is[6] ~= ARGV[4] or is[7] ~= ARGV[5] then return 'otherwise' end
  return is[8]
end
local time = redis.call('TIME')
if tonumber(is[2]) <= time[1] * 1000 + math.floor(time[2] / 1000) then return false end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'user', ARGV[2], 'main', ARGV[3], 'said', ARGV[4], 'history', ARGV[5],
  'device', ARGV[6])
redis.call('ZREM', KEYS[2], ARGV[1])
-- The places of the share and of the neighbourhood, on the same slot. A link of an older build lacks one, or both.
for place = 9, 10 do
  if is[place] then redis.call('ZREM', is[place], ARGV[1]) end
end
return ARGV[6]
