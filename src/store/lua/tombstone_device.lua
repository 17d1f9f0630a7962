#!lua flags=allow-oom
-- Sets the tombstone, once. Returns the termination in it; nil if the device isn't this user's.
-- KEYS owner
-- ARGV user, termination
local owner = redis.call('HMGET', KEYS[1], 'user', 'terminated')
if owner[1] ~= ARGV[1] then return false end
if owner[2] then return owner[2] end
redis.call('HSET', KEYS[1], 'terminated', ARGV[2])
return ARGV[2]
