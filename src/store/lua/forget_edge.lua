-- Deletes a dead edge from the list, unless it has registrations or sent a heartbeat since the caller read it. Also
-- deletes its name, unless another process has the name by now.
-- KEYS edges, counts, names, tokens
-- ARGV edge, the time of its last heartbeat, the record of its name as it was read, or ""
-- Returns 1 if it is off the list now
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
local alive = redis.call('ZSCORE', KEYS[1], ARGV[1])
if alive and tonumber(alive) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[3], ARGV[1]) == ARGV[3] then redis.call('HDEL', KEYS[3], ARGV[1]) end
redis.call('UNLINK', KEYS[4])
return 1
