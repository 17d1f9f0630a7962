-- A chat as one member sees it. Nil for anyone else.
-- KEYS meta, members
-- ARGV user
-- Gives {meta as a flat list, "boundary version"}
local member = redis.call('HGET', KEYS[2], ARGV[1])
if not member then return false end
return {redis.call('HGETALL', KEYS[1]), member}
