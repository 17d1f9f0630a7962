-- Blocks a user, and ends the invitations from that user. A late call changes nothing: see the version.
-- KEYS blocks, invitations, answers
-- ARGV whom, version, most
-- Returns "done", "full" or "stale"
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 'done' end
if (redis.call('GET', KEYS[3]) or '0') ~= ARGV[2] then return 'stale' end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 'full' end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('INCR', KEYS[3])
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  if string.match(all[i + 1], '^%d+ (.*)$') == ARGV[1] then redis.call('HDEL', KEYS[2], all[i]) end
end
return 'done'
