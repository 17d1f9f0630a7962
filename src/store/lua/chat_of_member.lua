-- Returns a chat as one member sees it: {meta as a flat list, "boundary version"}; nil for anyone else.
-- KEYS meta, members
-- ARGV user
local member = redis.call('HGET', KEYS[2], ARGV[1])
if not member then return false end
return {redis.call('HGETALL', KEYS[1]), member}
