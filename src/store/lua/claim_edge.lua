#!lua flags=allow-oom
-- Claims a name for an edge's process: a free name, a name whose holder was seen to be dead, or its own name again.
-- KEYS names
-- ARGV edge, process, the record of the dead holder, or ""
-- Returns the record in force: "<process>[.<term>] <beat>"
local is = redis.call('HGET', KEYS[1], ARGV[1])
if is and is ~= ARGV[3] and string.match(is, '^([^%s.]+)') ~= ARGV[2] then return is end
local mine = ARGV[2] .. ' 0'
redis.call('HSET', KEYS[1], ARGV[1], mine)
return mine
