-- A chat as one member sees it. Nil for anyone else.
-- KEYS meta, members
-- ARGV user
-- Gives {meta as a flat list, boundary}
local boundary = redis.call('HGET', KEYS[2], ARGV[1])
if not boundary then return false end
return {redis.call('HGETALL', KEYS[1]), boundary}
