-- Registers a device in two calls around the claim of its id (which lives in another slot). `intend` checks and leaves
-- a short-lived mark; `write` checks again and writes, if the mark still exists: a termination in between has deleted
-- the mark, so a call under way can't undo it. Each device begins with a generation that none of the user's devices had
-- before: once its tombstone is gone, a device may be registered under the same id, and no token of the first may open
-- it. (Earlier builds began with 1 each time.)
-- KEYS devices, intent, generations
-- ARGV "intend" or "write", device, kind, most subs, name, platform, created, history or "", the store's clock in
--      seconds (0: it has none)
-- Returns {"existing", now, kind, name, ...}, {"other_kind"}, {"ending"}, {"main", device}, {"full"}, {"lost"}, {"ok"}
--      or, written, {"ok", generation}
local device, kind = ARGV[2], ARGV[3]
local fields = redis.call('HMGET', KEYS[1], device .. '.kind', device .. '.name', device .. '.platform',
  device .. '.created', device .. '.seen', device .. '.state', device .. '.generation', device .. '.session',
  device .. '.edge', device .. '.until', device .. '.expires', device .. '.history', device .. '.incarnation')
if fields[1] then
  if fields[6] == 'terminating' then return {'ending'} end
  if fields[1] ~= kind then return {'other_kind'} end
  local time = redis.call('TIME')
  return {'existing', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), unpack(fields, 1, 13)}
end

local subs, all, kinds, ending = 0, redis.call('HGETALL', KEYS[1]), {}, {}
for i = 1, #all, 2 do
  local id, field = string.sub(all[i], 1, 32), string.sub(all[i], 34)
  if field == 'kind' then kinds[id] = all[i + 1] end
  if field == 'state' and all[i + 1] == 'terminating' then ending[id] = true end
end
for id, other in pairs(kinds) do
  if not ending[id] then
    if other == 'main' and kind == 'main' then return {'main', id} end
    if other == 'sub' then subs = subs + 1 end
  end
end
if kind == 'sub' and subs >= tonumber(ARGV[4]) then return {'full'} end

if ARGV[1] == 'intend' then
  redis.call('SET', KEYS[2], '1', 'EX', 60)
  return {'ok'}
end
if redis.call('DEL', KEYS[2]) == 0 then return {'lost'} end
local generation = redis.call('INCR', KEYS[3])
if generation < 2 then generation = redis.call('INCR', KEYS[3]) end
redis.call('HSET', KEYS[1], device .. '.kind', kind, device .. '.name', ARGV[5], device .. '.platform', ARGV[6],
  device .. '.created', ARGV[7], device .. '.seen', ARGV[7], device .. '.state', 'registering',
  device .. '.generation', generation, device .. '.session', '0', device .. '.warned', ARGV[9])
if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], device .. '.history', ARGV[8]) end
return {'ok', generation}
