-- Makes a user a member, owed everything above the head of this moment.
-- KEYS meta, members, banned
-- ARGV user, "themselves" or "invitation", most members of a group
-- Gives {"new", boundary}, {"already", boundary}, {"refused"} or {"full"}
local meta = redis.call('HMGET', KEYS[1], 'kind', 'head')
if not meta[1] then return {'refused'} end
local boundary = redis.call('HGET', KEYS[2], ARGV[1])
if boundary then return {'already', boundary} end
if ARGV[2] ~= 'invitation' and redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then return {'refused'} end
local most = meta[1] == 'direct' and 2 or tonumber(ARGV[3])
if redis.call('HLEN', KEYS[2]) >= most then return {'full'} end
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], meta[2])
return {'new', meta[2]}
