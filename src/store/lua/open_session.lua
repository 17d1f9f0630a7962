-- Gives the device to a new session.
-- KEYS devices
-- ARGV device, generation, edge, milliseconds
-- Gives nil (no such device), "inactive", "terminated", or {session, the edge before or "", its session, now, kind, ...}
local d = ARGV[1]
local was = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.generation', d .. '.session', d .. '.edge', d .. '.until')
if not was[1] then return false end
local wanted, is = tonumber(ARGV[2]), tonumber(was[2])
if was[1] == 'terminating' or wanted < is then return 'terminated' end
if was[1] ~= 'active' or wanted > is then return 'inactive' end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local session = string.format('%.0f', was[3] + 1)
redis.call('HSET', KEYS[1], d .. '.session', session, d .. '.edge', ARGV[3],
  d .. '.until', string.format('%.0f', now + ARGV[4]), d .. '.seen', string.format('%.0f', now))
redis.call('HDEL', KEYS[1], d .. '.expires')
local edge = ''
if was[4] and tonumber(was[5]) > now then edge = was[4] end
return {session, edge, was[3], string.format('%.0f', now),
  unpack(redis.call('HMGET', KEYS[1], d .. '.kind', d .. '.name', d .. '.platform', d .. '.created', d .. '.seen',
    d .. '.state', d .. '.generation', d .. '.session', d .. '.edge', d .. '.until', d .. '.expires',
    d .. '.history'), 1, 12)}
