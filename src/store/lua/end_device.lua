#!lua flags=allow-oom
-- Writes the state `terminating` and the next generation, once.
-- KEYS devices
-- ARGV device
local state = redis.call('HGET', KEYS[1], ARGV[1] .. '.state')
if state and state ~= 'terminating' then
  redis.call('HSET', KEYS[1], ARGV[1] .. '.state', 'terminating')
  redis.call('HINCRBY', KEYS[1], ARGV[1] .. '.generation', 1)
end
return 1
