#!lua flags=allow-oom
-- Attaches a device's session to a chat: from here on older sessions can't move the device's cursor.
-- KEYS meta, members, from, cursor, fence
-- ARGV user, device, session
-- Returns nil (not a member, not subscribed in this membership, a newer session) or {meta as a flat list, from, cursor,
--      boundary}
local boundary = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^%d+')
local from = redis.call('HGET', KEYS[3], ARGV[2])
if not boundary or not from or tonumber(from) < tonumber(boundary) then return false end
local fence, session = tonumber(redis.call('HGET', KEYS[5], ARGV[2]) or 0), tonumber(ARGV[3])
if fence > session then return false end
if fence < session then redis.call('HSET', KEYS[5], ARGV[2], ARGV[3]) end
return {redis.call('HGETALL', KEYS[1]), from, redis.call('HGET', KEYS[4], ARGV[2]) or from, boundary}
