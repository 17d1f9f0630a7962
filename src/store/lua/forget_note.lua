-- Forgets one note of an edge, unless the edge has said lately that it lives.
-- KEYS edges, counts, notes
-- ARGV edge, what, milliseconds that it must have been silent for (0: whatever it said)
local alive = redis.call('ZSCORE', KEYS[1], ARGV[1])
if alive and tonumber(ARGV[3]) > 0 then
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) - alive < tonumber(ARGV[3]) then return 0 end
end
if redis.call('SREM', KEYS[3], ARGV[2]) == 1 and redis.call('HINCRBY', KEYS[2], ARGV[1], -1) == 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
