-- Ends one membership: the one that the caller read, and no later one. Raises the chat's epoch, so that later messages
-- don't reach the user who has left. If the owner of a group leaves, the longest-standing member becomes its owner (the
-- lowest boundary, then the first by name), because nobody else could invite or remove. A direct chat stays its pair's.
-- KEYS members, banned, meta, left, arriving
-- ARGV user, "ban" or "", version, the store's sequence offset, how many former members are remembered
-- Returns how many members remain; nil if the user is no member, -1 if the membership is another one
local member = redis.call('HGET', KEYS[1], ARGV[1])
if not member then return false end
if (string.match(member, ' (%d+)$') or '0') ~= ARGV[3] then return -1 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
if ARGV[2] == 'ban' then redis.call('SADD', KEYS[2], ARGV[1]) end
local meta = redis.call('HMGET', KEYS[3], 'owner', 'epoch', 'left_lift', 'kind')
-- An older copy of the data was restored since: the epoch rises above all epochs that may have been assigned since that
-- copy.
local seq_offset = tonumber(ARGV[4]) - tonumber(meta[3] or 0)
local epoch = string.format('%.0f', (meta[2] or 0) + 1 + math.max(seq_offset, 0))
redis.call('HSET', KEYS[3], 'epoch', epoch)
if seq_offset > 0 then redis.call('HSET', KEYS[3], 'left_lift', ARGV[4]) end
redis.call('ZADD', KEYS[4], epoch, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[5])
if meta[1] == ARGV[1] and meta[4] ~= 'direct' then
  local members, heir, since = redis.call('HGETALL', KEYS[1]), nil, nil
  for i = 1, #members, 2 do
    local user, boundary = members[i], tonumber(string.match(members[i + 1], '^%d+'))
    if heir == nil or boundary < since or (boundary == since and user < heir) then heir, since = user, boundary end
  end
  if heir then redis.call('HSET', KEYS[3], 'owner', heir) end
end
return redis.call('HLEN', KEYS[1])
