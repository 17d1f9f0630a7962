-- Activates a device (`registering` -> `active`). Returns 1 if it is active now.
-- KEYS devices
-- ARGV device
local state = redis.call('HGET', KEYS[1], ARGV[1] .. '.state')
if state == 'registering' then redis.call('HSET', KEYS[1], ARGV[1] .. '.state', 'active') end
if state == 'registering' or state == 'active' then return 1 end
return 0
