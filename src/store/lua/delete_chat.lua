-- Deletes a chat that has no members. A tombstone remains for a while and keeps the id from being reused: clients and
-- NSQ may still know the old chat by it.
-- KEYS meta, members, two hashes of how many keys each has, spent, then all others of the chat
-- ARGV now, milliseconds that the tombstone is kept, and the same for a chat without any message
-- Returns nil if it has members, else {what meta was, as a flat list; the users of whom it held bytes}
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local was, users = redis.call('HGETALL', KEYS[1]), {}
if #was == 0 or redis.call('HEXISTS', KEYS[1], 'deleted') == 1 then return {was, users} end
for i = 3, 5 do
  for _, user in ipairs(redis.call('HKEYS', KEYS[i])) do users[#users + 1] = user end
end
local said = redis.call('HEXISTS', KEYS[1], 'bytes') == 1
redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', KEYS[1], 'deleted', ARGV[1])
redis.call('PEXPIRE', KEYS[1], said and ARGV[2] or ARGV[3])
return {was, users}
