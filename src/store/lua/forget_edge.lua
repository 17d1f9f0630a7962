-- Takes an edge off the list, unless it has notes.
-- KEYS edges, counts
-- ARGV edge
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
