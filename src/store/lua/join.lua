-- Makes a user a member, who receives everything above the current head. The membership gets its own version, so that
-- the end of it can't end a later one. The member is arriving: see append.
-- KEYS meta, members, banned, left, arriving
-- ARGV user, "themselves" or "invitation", most members of a group, the epoch that its caller read, how many former
--      members are remembered
-- Returns {"new", boundary}, {"already", boundary}, {"refused"}, {"full"} or {"stale"} (the user has left since that
--      epoch: this call is late)
local meta = redis.call('HMGET', KEYS[1], 'kind', 'head')
if not meta[1] then return {'refused'} end
local member = redis.call('HGET', KEYS[2], ARGV[1])
if member then return {'already', string.match(member, '^%d+')} end
local epoch, left = tonumber(ARGV[4]), redis.call('ZSCORE', KEYS[4], ARGV[1])
if left then
  if tonumber(left) > epoch then return {'stale'} end
elseif redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[5]) then
  -- So many users have left that the first are forgotten: perhaps this user, perhaps since that epoch.
  if tonumber(redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2]) > epoch + 1 then return {'stale'} end
end
if ARGV[2] ~= 'invitation' and redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then return {'refused'} end
local most = meta[1] == 'direct' and 2 or tonumber(ARGV[3])
if redis.call('HLEN', KEYS[2]) >= most then return {'full'} end
redis.call('SREM', KEYS[3], ARGV[1])
local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[2], ARGV[1], meta[2] .. ' ' .. version)
redis.call('HSET', KEYS[5], ARGV[1], version)
return {'new', meta[2]}
