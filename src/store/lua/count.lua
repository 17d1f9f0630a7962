-- Counts one more in a window that begins with its first.
-- KEYS count
-- ARGV milliseconds
local count = redis.call('INCR', KEYS[1])
-- Longer than a window: the clock was set back since it began.
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
