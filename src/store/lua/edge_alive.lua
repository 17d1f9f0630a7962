#!lua flags=allow-oom
-- Records an edge's heartbeat, which is the lease of its incarnation, and returns the heartbeats of the others: the
-- caller tells live edges from dead ones by whether their heartbeats move on.
-- KEYS edges, counts, names
-- ARGV edge, milliseconds of silence, process, term
-- Returns nil if another process has the edge's name by now, "lapsed" if this process goes on under a later term by now
--      (in both cases nothing changed), else the time, the time of the edge's heartbeat before or 0, and for each other
--      edge "<edge> <time of its last heartbeat> <silent or heard> <noted or bare>", and the record of its name if there
--      is one
local is = redis.call('HGET', KEYS[3], ARGV[1]) or ''
local process, term, beat = string.match(is, '^([^%s.]+)%.?(%d*) (%d+)$')
if process and process ~= ARGV[3] then return false end
if process and tonumber(term == '' and 0 or term) > tonumber(ARGV[4]) then return 'lapsed' end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3] .. '.' .. ARGV[4] .. string.format(' %.0f', (beat or 0) + 1))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = string.format('%.0f', now)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0
redis.call('ZADD', KEYS[1], text, ARGV[1])
local answer = {text, string.format('%.0f', math.min(before, now))}
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
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
    answer[#answer + 1] = edge .. string.format(' %.0f', alive) .. silent .. noted .. (named and ' ' .. named or '')
  end
end
return answer
