#!lua flags=allow-oom
-- Records an edge's heartbeat, and returns the heartbeats of the others: the caller tells live edges from dead ones by
-- whether their heartbeats move on.
-- KEYS edges, counts, names
-- ARGV edge, milliseconds of silence, incarnation
-- Returns nil if another process has the edge's name by now (then nothing changed), else for each other edge "<edge>
--      <time of its last heartbeat> <silent or heard> <noted or bare>", and the record of its name if there is one
local who, beat = string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '', '^(%S+) (%d+)$')
if who and who ~= ARGV[3] then return false end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3] .. string.format(' %.0f', (beat or 0) + 1))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = string.format('%.0f', now)
redis.call('ZADD', KEYS[1], text, ARGV[1])
local others, all = {}, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  local edge, alive = all[i], tonumber(all[i + 1])
  if edge ~= ARGV[1] then
    if alive > now then
      -- The clock was set back since: the edge's silence begins now.
      redis.call('ZADD', KEYS[1], text, edge)
      alive = now
    end
    local silent = alive <= now - ARGV[2] and ' silent' or ' heard'
    local noted = redis.call('HEXISTS', KEYS[2], edge) == 1 and ' noted' or ' bare'
    local named = redis.call('HGET', KEYS[3], edge)
    others[#others + 1] = edge .. string.format(' %.0f', alive) .. silent .. noted .. (named and ' ' .. named or '')
  end
end
return others
