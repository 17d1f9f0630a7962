-- Forgets one note of an edge.
-- KEYS counts, notes
-- ARGV edge, what
if redis.call('SREM', KEYS[2], ARGV[2]) == 1 and redis.call('HINCRBY', KEYS[1], ARGV[1], -1) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
