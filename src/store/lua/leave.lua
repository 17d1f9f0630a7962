-- Ends a membership. Gives how many members stay; nil when there was none to end. An owner who goes hands the chat on to
-- who has been in it longest (the lowest boundary, then the first by name), because nobody else could invite or remove.
-- KEYS members, banned, meta
-- ARGV user, "ban" or ""
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return false end
if ARGV[2] == 'ban' then redis.call('SADD', KEYS[2], ARGV[1]) end
if redis.call('HGET', KEYS[3], 'owner') == ARGV[1] then
  local members, heir, since = redis.call('HGETALL', KEYS[1]), nil, nil
  for i = 1, #members, 2 do
    local user, boundary = members[i], tonumber(members[i + 1])
    if heir == nil or boundary < since or (boundary == since and user < heir) then heir, since = user, boundary end
  end
  if heir then redis.call('HSET', KEYS[3], 'owner', heir) end
end
return redis.call('HLEN', KEYS[1])
