#!lua flags=allow-oom
-- Checks whether this is the same store as before, and not an older copy of it; moves its clock, once a second at most.
-- A clock behind what an edge has seen is an older copy's: then `seq_offset`, by which every chat's next number is
-- raised above whatever may have been assigned, grows by 100,000 for each missing second (Redis numbers some 50,000
-- messages a second in all, so that no chat had more), and for ten seconds more: an edge checks only once a second.
-- KEYS store, clock
-- ARGV its name as it is known or "", the highest clock and the highest seq_offset that were seen
-- Returns {name or ""} if it isn't the same store, else {name, clock, seq_offset, missing seconds}
local name = redis.call('GET', KEYS[1])
if not name or (ARGV[1] ~= '' and name ~= ARGV[1]) then return {name or ''} end
local is = redis.call('HMGET', KEYS[2], 'clock', 'second', 'lift')
local clock, seq_offset, second = tonumber(is[1] or 0), tonumber(is[3] or 0), redis.call('TIME')[1]
local missing = math.max(ARGV[2] - clock, 0)
if missing > 0 then
  clock = clock + missing
  seq_offset = math.max(seq_offset, tonumber(ARGV[3])) + (missing + 10) * 100000
end
if missing > 0 or second ~= is[2] then
  clock = clock + 1
  redis.call('HSET', KEYS[2], 'clock', string.format('%.0f', clock), 'second', second,
    'lift', string.format('%.0f', seq_offset))
end
return {name, string.format('%.0f', clock), string.format('%.0f', seq_offset), string.format('%.0f', missing)}
