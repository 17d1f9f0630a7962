-- Deletes one registration of an edge, unless it was registered again since, or the edge sent a heartbeat lately.
-- KEYS edges, counts, notes, tokens
-- ARGV edge, what, milliseconds without a heartbeat that are required (0: none), its token (0: it has none)
local token = redis.call('HGET', KEYS[4], ARGV[2])
if token and token ~= ARGV[4] then return 0 end
local alive = redis.call('ZSCORE', KEYS[1], ARGV[1])
if alive and tonumber(ARGV[3]) > 0 then
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) - alive < tonumber(ARGV[3]) then return 0 end
end
redis.call('HDEL', KEYS[4], ARGV[2])
if redis.call('SREM', KEYS[3], ARGV[2]) == 1 and redis.call('HINCRBY', KEYS[2], ARGV[1], -1) == 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
