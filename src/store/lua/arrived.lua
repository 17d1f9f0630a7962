-- Records that all queues of a member exist. No-op if the membership has ended or is another one.
-- KEYS arriving
-- ARGV user, version of the membership
-- Returns 1 if the state changed
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
