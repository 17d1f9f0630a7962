-- Takes a name for an edge's process: a free one, one whose holder was seen to be dead, or its own again.
-- KEYS names
-- ARGV edge, incarnation, the record of the holder that is dead, or ""
-- Gives the record that stands: "<incarnation> <beat>"
local is = redis.call('HGET', KEYS[1], ARGV[1])
if is and is ~= ARGV[3] and string.match(is, '^%S+') ~= ARGV[2] then return is end
local mine = ARGV[2] .. ' 0'
redis.call('HSET', KEYS[1], ARGV[1], mine)
return mine
