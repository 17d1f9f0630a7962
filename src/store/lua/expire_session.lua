#!lua flags=allow-oom
-- Releases a lease that has run out, for a session whose edge is gone.
-- KEYS devices
-- ARGV device, session, edge
-- Returns "held" (the lease hasn't run out), "coming" (the session has no lease, and a late call may still give it one:
--      its number wasn't assigned yet, or can be assigned again), nil (released before, another session's, or no such
--      device) or when the device was last seen: the lease is released now, or its own edge released it and perhaps
--      couldn't notify anyone
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.session', d .. '.edge', d .. '.until', d .. '.seen')
if not is[1] then return false end
if not is[2] and is[1] == string.format('%.0f', ARGV[2] + 1) then return is[4] end
if tonumber(is[1]) < tonumber(ARGV[2]) or (is[1] == ARGV[2] and not is[2]) then return 'coming' end
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] then return false end
local time = redis.call('TIME')
local now, till, seen = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(is[3]), tonumber(is[4])
if seen > now then
  -- The clock was set back since: the lease lasts from now on as long as it was granted for.
  redis.call('HSET', KEYS[1], d .. '.until', string.format('%.0f', now + till - seen),
    d .. '.seen', string.format('%.0f', now))
  return 'held'
end
if till > now then return 'held' end
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.until')
return is[4]
