-- Releases a name if this process holds it.
-- KEYS names
-- ARGV edge, process
if string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^([^%s.]+)') ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
