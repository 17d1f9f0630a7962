#!lua flags=allow-oom
-- Gives the device to a new session, unless another session was opened since the caller read its number: a late or
-- repeated call must not take the device from a session that was opened meanwhile.
-- KEYS devices
-- ARGV device, generation, edge, its incarnation, the number of the newest session as it was read, when the device was
--      read first for this session, milliseconds within which two sessions have no order
-- Returns nil (no such device), "inactive", "terminated", {"late" (the newest has begun clearly later) or "changed",
--      the number of the newest, its edge or ""}, or {session, the edge before or "", its session, now, kind, ...}. The
--      edge before must be notified: nobody here knows whether it lives.
local d = ARGV[1]
local was = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.generation', d .. '.session', d .. '.edge',
  d .. '.begun')
if not was[1] then return false end
local wanted, is = tonumber(ARGV[2]), tonumber(was[2])
if was[1] == 'terminating' or wanted < is then return 'terminated' end
if was[1] ~= 'active' or wanted > is then return 'inactive' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- In the future: the clock was set back since.
local begun = tonumber(was[5] or 0)
if begun <= now and ARGV[6] + ARGV[7] < begun then return {'late', was[3], was[4] or ''} end
if was[3] ~= ARGV[5] then return {'changed', was[3], was[4] or ''} end

local session = string.format('%.0f', was[3] + 1)
redis.call('HSET', KEYS[1], d .. '.session', session, d .. '.edge', ARGV[3], d .. '.incarnation', ARGV[4],
  d .. '.seen', string.format('%.0f', now), d .. '.begun', ARGV[6])
redis.call('HDEL', KEYS[1], d .. '.until', d .. '.expires', d .. '.warned')
return {session, was[4] or '', was[3], string.format('%.0f', now),
  unpack(redis.call('HMGET', KEYS[1], d .. '.kind', d .. '.name', d .. '.platform', d .. '.created', d .. '.seen',
    d .. '.state', d .. '.generation', d .. '.session', d .. '.edge', d .. '.until', d .. '.expires',
    d .. '.history', d .. '.incarnation'), 1, 13)}
