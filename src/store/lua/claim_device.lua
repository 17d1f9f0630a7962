-- Claims a device's id for a user, permanently. Returns 0 if it is another user's or was terminated.
-- KEYS owner
-- ARGV user
local owner = redis.call('HMGET', KEYS[1], 'user', 'terminated')
if owner[2] or (owner[1] and owner[1] ~= ARGV[1]) then return 0 end
if not owner[1] then redis.call('HSET', KEYS[1], 'user', ARGV[1]) end
return 1
