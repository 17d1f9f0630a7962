-- Sets a key to a new value if it holds the expected one ("" for none). Returns the value that it holds then.
-- KEYS key
-- ARGV expected, new
local is = redis.call('GET', KEYS[1]) or ''
if is ~= ARGV[1] then return is end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
