-- All queues of a member are there; or the membership is over, or another.
-- KEYS arriving
-- ARGV user, version of the membership
-- Gives 1 when that was news
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
