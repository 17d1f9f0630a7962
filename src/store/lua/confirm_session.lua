#!lua flags=allow-oom
-- Records that a session serves its device, or takes back a device that another edge released, if this session is the
-- newest. Also moves the time it was last seen.
-- KEYS devices
-- ARGV device, session, edge, its incarnation, "there" (the session serves its device from now on: only such a session
--      replaces an older one) or "", "revive" (if its device was released, it takes the device back) or ""
-- Returns nil (no such device, or none that had this session yet: an older copy of the data), "terminated", "newer" (a
--      newer number was assigned), "released" (nothing changed) or "held"
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.session', d .. '.edge')
if not is[1] then return false end
if is[1] == 'terminating' then return 'terminated' end
local newest, mine = tonumber(is[2]), tonumber(ARGV[2])
if newest < mine then return false end
if newest > mine then return 'newer' end
if not is[3] then
  if ARGV[6] == '' then return 'released' end
  redis.call('HSET', KEYS[1], d .. '.edge', ARGV[3], d .. '.incarnation', ARGV[4])
  redis.call('HDEL', KEYS[1], d .. '.expires', d .. '.warned')
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], d .. '.seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], d .. '.there', ARGV[2]) end
return 'held'
