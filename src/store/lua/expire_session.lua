#!lua flags=allow-oom
-- Releases the device of a session that is over: its edge's incarnation is dead, or its edge no longer has it. Where an
-- older build wrote the record, the lease in the record must have run out.
-- KEYS devices
-- ARGV device, session, edge, the edge's incarnation or "" (an older build's), when that incarnation was last heard of
-- Returns "held" (an older build's lease hasn't run out), "coming" (the session has no device, and a late call may still
--      give it one: its number wasn't assigned yet, or can be assigned again), nil (released before, another session's,
--      or no such device) or when the device was last seen: it is released now, or its own edge released it and perhaps
--      couldn't notify anyone
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.session', d .. '.edge', d .. '.incarnation', d .. '.seen', d .. '.until')
if not is[1] then return false end
if not is[2] and is[1] == string.format('%.0f', ARGV[2] + 1) then return is[4] end
if tonumber(is[1]) < tonumber(ARGV[2]) or (is[1] == ARGV[2] and not is[2]) then return 'coming' end
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] or (is[3] or '') ~= ARGV[4] then return false end
local time = redis.call('TIME')
local now, seen = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(is[4])
if not is[3] then
  local till = tonumber(is[5] or 0)
  if seen > now then
    -- The clock was set back since: the lease lasts from now on as long as it was granted for.
    redis.call('HSET', KEYS[1], d .. '.until', string.format('%.0f', now + till - seen),
      d .. '.seen', string.format('%.0f', now))
    return 'held'
  end
  if till > now then return 'held' end
end
seen = string.format('%.0f', math.min(math.max(seen, tonumber(ARGV[5])), now))
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.incarnation', d .. '.until')
redis.call('HSET', KEYS[1], d .. '.seen', seen)
return seen
