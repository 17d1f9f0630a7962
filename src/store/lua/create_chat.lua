-- Creates a chat with its first members, unless a chat with its id exists or existed. The members are arriving: see
-- append.
-- KEYS meta, members, arriving
-- ARGV how many members, their boundary, the members, then the fields and values of meta
-- Returns the meta that is stored now, as a flat list behind "new" or "there"
local there = redis.call('HGETALL', KEYS[1])
if #there > 0 then return {'there', unpack(there)} end
local count = tonumber(ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, count + 3))
for i = 3, count + 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[i], '0')
end
return {'new', unpack(redis.call('HGETALL', KEYS[1]))}
