#!lua flags=allow-oom
-- Fences a device that was offline for long, if it is unchanged since that was decided: `terminating`, and the next
-- generation. Not before `notice` has passed since its warning (or, while it registers, since it was written), whatever
-- the clocks of Redis and of the edges show meanwhile. A device that an edge has is online, or waits for whoever finds
-- that its edge is dead (expire_session).
-- KEYS devices
-- ARGV device, state, when it was seen, the store's clock in seconds (0: it has none), notice in seconds
-- Returns 1 if it is fenced now
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.seen', d .. '.edge', d .. '.until', d .. '.warned',
  d .. '.incarnation')
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] then return 0 end
local time = redis.call('TIME')
if is[6] or is[3] and tonumber(is[4]) > time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
if is[5] and is[5] ~= '0' and ARGV[4] ~= '0' and ARGV[4] - is[5] < tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], d .. '.state', 'terminating')
redis.call('HINCRBY', KEYS[1], d .. '.generation', 1)
return 1
