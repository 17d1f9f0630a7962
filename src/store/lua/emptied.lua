#!lua flags=allow-oom
-- Records that a device's queue was emptied when this many bytes had been appended.
-- KEYS from, behind
-- ARGV device, bytes
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or -1) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
