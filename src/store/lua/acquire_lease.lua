#!lua flags=allow-oom
-- Acquires or renews a lease of background work. Returns 0 if another holder has it.
-- KEYS lease
-- ARGV holder, milliseconds
local is = redis.call('GET', KEYS[1])
if is and is ~= ARGV[1] then
  -- The clock was set back since the lease was acquired: the lease lasts for its full time from now on, and no longer.
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
