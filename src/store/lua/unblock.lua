-- Unblocks a user. A late call changes nothing: see the version.
-- KEYS blocks, answers
-- ARGV whom, version
-- Returns 0 if the version is an older one
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 1 end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[2] then return 0 end
redis.call('INCR', KEYS[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
