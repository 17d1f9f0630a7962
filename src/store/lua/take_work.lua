-- Takes or renews the right to some work. 0 when somebody else has it.
-- KEYS work
-- ARGV holder, milliseconds
local is = redis.call('GET', KEYS[1])
if is and is ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
