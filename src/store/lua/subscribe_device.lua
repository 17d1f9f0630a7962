-- Subscribes a device, once in each membership of its user (a position below the boundary is an earlier membership's).
-- A late call writes the same position as one in time.
-- KEYS meta, members, from, cursor
-- ARGV user, device, "boundary" (of a user who joins) or the head that its caller read (a device that registers)
-- Returns nil (not a member) or {from, cursor}
local boundary = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^%d+')
if not boundary then return false end
local from = redis.call('HGET', KEYS[3], ARGV[2])
if from and tonumber(from) >= tonumber(boundary) then
  return {from, redis.call('HGET', KEYS[4], ARGV[2]) or from}
end
from = boundary
local seen = tonumber(ARGV[3])
if seen and seen > tonumber(boundary) then
  local head = redis.call('HGET', KEYS[1], 'head')
  from = seen > tonumber(head) and head or ARGV[3]
end
-- The device doesn't receive again what it acknowledged after its user rejoined, on a connection that hadn't noticed
-- anything.
local cursor = redis.call('HGET', KEYS[4], ARGV[2])
if not cursor or tonumber(cursor) < tonumber(from) then cursor = from end
redis.call('HSET', KEYS[3], ARGV[2], from)
redis.call('HSET', KEYS[4], ARGV[2], cursor)
return {from, cursor}
