-- Ends a membership. Gives how many members stay; nil when there was none to end.
-- KEYS members, banned
-- ARGV user, "ban" or ""
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return false end
if ARGV[2] == 'ban' then redis.call('SADD', KEYS[2], ARGV[1]) end
return redis.call('HLEN', KEYS[1])
