-- Ends one membership: the one that the caller saw, and not one that came after it. Raises the chat's epoch, so that nothing
-- that is said from now on reaches who has left. An owner who goes hands the chat on to who has been in it longest (the
-- lowest boundary, then the first by name), because nobody else could invite or remove.
-- KEYS members, banned, meta, left, arriving
-- ARGV user, "ban" or "", version, the store's lift, how many of those who left are remembered
-- Gives how many members stay; nil when the user is no member, -1 when in another membership
local member = redis.call('HGET', KEYS[1], ARGV[1])
if not member then return false end
if (string.match(member, ' (%d+)$') or '0') ~= ARGV[3] then return -1 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
if ARGV[2] == 'ban' then redis.call('SADD', KEYS[2], ARGV[1]) end
local meta = redis.call('HMGET', KEYS[3], 'owner', 'epoch', 'left_lift')
-- An older copy of the data was brought back since: above all epochs that may have been given since that copy.
local lift = tonumber(ARGV[4]) - tonumber(meta[3] or 0)
local epoch = string.format('%.0f', (meta[2] or 0) + 1 + math.max(lift, 0))
redis.call('HSET', KEYS[3], 'epoch', epoch)
if lift > 0 then redis.call('HSET', KEYS[3], 'left_lift', ARGV[4]) end
redis.call('ZADD', KEYS[4], epoch, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[5])
if meta[1] == ARGV[1] then
  local members, heir, since = redis.call('HGETALL', KEYS[1]), nil, nil
  for i = 1, #members, 2 do
    local user, boundary = members[i], tonumber(string.match(members[i + 1], '^%d+'))
    if heir == nil or boundary < since or (boundary == since and user < heir) then heir, since = user, boundary end
  end
  if heir then redis.call('HSET', KEYS[3], 'owner', heir) end
end
return redis.call('HLEN', KEYS[1])
