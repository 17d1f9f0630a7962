-- Takes a dead edge off the list; not one that has notes, or that has said that it lives since that was read. With its name,
-- unless another process has that by now.
-- KEYS edges, counts, names, tokens
-- ARGV edge, when it last said that it lives, the record of its name as it was read, or ""
-- Gives 1 when it is off the list now
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
local alive = redis.call('ZSCORE', KEYS[1], ARGV[1])
if alive and tonumber(alive) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[3], ARGV[1]) == ARGV[3] then redis.call('HDEL', KEYS[3], ARGV[1]) end
redis.call('UNLINK', KEYS[4])
return 1
