-- Counts one more in a window that begins with its first.
-- KEYS count
-- ARGV milliseconds
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
