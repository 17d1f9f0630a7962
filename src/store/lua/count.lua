#!lua flags=allow-oom
-- Counts one more event in a window that begins with its first event.
-- KEYS count
-- ARGV milliseconds
-- Returns {count, milliseconds left of the window}
local count = redis.call('INCR', KEYS[1])
-- More than a window is left: the clock was set back since the window began.
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
