#!lua flags=allow-oom
-- Renews the device's lease if this session is the newest. Also moves the time it was last seen.
-- KEYS devices
-- ARGV device, session, milliseconds, edge, "there" (the session serves its device from now on: only such a session
--      replaces an older one) or "", "revive" (if its lease was released, it acquires the lease again) or ""
-- Returns nil (no such device, or none that had this session yet: an older copy of the data), "terminated", "replaced"
--      (a newer session serves the device), "unconfirmed" (a newer number was assigned, and no session is known to
--      serve with it), "expired" (its lease was released; nothing changed) or "held"
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.session', d .. '.edge', d .. '.until', d .. '.there')
if not is[1] then return false end
if is[1] == 'terminating' then return 'terminated' end
local newest, mine = tonumber(is[2]), tonumber(ARGV[2])
if newest < mine then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if newest > mine then
  if is[3] and is[5] == is[2] and tonumber(is[4]) > now then return 'replaced' end
  return 'unconfirmed'
end
if not is[3] then
  if ARGV[6] == '' then return 'expired' end
  redis.call('HDEL', KEYS[1], d .. '.expires', d .. '.warned')
end
redis.call('HSET', KEYS[1], d .. '.edge', ARGV[4], d .. '.until', string.format('%.0f', now + ARGV[3]),
  d .. '.seen', string.format('%.0f', now))
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], d .. '.there', ARGV[2]) end
return 'held'
