-- Records when an active device will expire, once since it was last seen. A device that an edge has is online, or waits
-- for whoever finds that its edge is dead (expire_session).
-- KEYS devices
-- ARGV device, when it was seen, when it will expire, the store's clock in seconds (0: it has none)
-- Returns 1 if this was the first time
local d = ARGV[1]
local is = redis.call('HMGET', KEYS[1], d .. '.state', d .. '.seen', d .. '.expires', d .. '.edge',
  d .. '.until', d .. '.incarnation')
if is[1] ~= 'active' or is[2] ~= ARGV[2] or is[3] then return 0 end
local time = redis.call('TIME')
if is[6] or is[4] and tonumber(is[5]) > time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
redis.call('HSET', KEYS[1], d .. '.expires', ARGV[3], d .. '.warned', ARGV[4])
redis.call('HDEL', KEYS[1], d .. '.edge', d .. '.until')
return 1
