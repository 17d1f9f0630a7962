-- Takes or renews the right to some work. 0 when somebody else has it.
-- KEYS work
-- ARGV holder, milliseconds
local is = redis.call('GET', KEYS[1])
if is and is ~= ARGV[1] then
  -- The clock was set back since it was taken: it has as long as it was given from now on, and not until then.
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
