-- Records an invitation, if there is room for one more open one. A late call changes nothing: see the version.
-- KEYS invitations, answers
-- ARGV chat, who invites, version, most, most from one user, milliseconds that an invitation stays open
-- Returns "done" (also if it is open already), "full" or "stale"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all, count, own, there = redis.call('HGETALL', KEYS[1]), 0, 0, false
for i = 1, #all, 2 do
  local at, by = string.match(all[i + 1], '^(%d+) (.*)$')
  if not at or at + ARGV[6] <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    count = count + 1
    if by == ARGV[2] then own = own + 1 end
    if all[i] == ARGV[1] then there = true end
  end
end
if there then return 'done' end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[3] then return 'stale' end
if count >= tonumber(ARGV[4]) or own >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
return 'done'
