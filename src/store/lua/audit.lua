#!lua flags=allow-oom
-- Appends an entry to one of the two parts of the audit log, behind the newest of both, and deletes expired entries:
-- changes only when there are more than the given number *and* they are old, a hundred at a time; attempts except the
-- newest.
-- KEYS changes, attempts
-- ARGV "changes", "attempts" or "" (writes nothing), entry, number of changes that are always kept, milliseconds that
--      changes are always kept, number of attempts kept
-- Returns {id or "", how many changes there are}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = ''
if ARGV[1] ~= '' then
  local at, number = now, 0
  for _, key in ipairs(KEYS) do
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    local millis, n = string.match(last and last[1] or '0-0', '^(%d+)-(%d+)$')
    -- This also holds if the clock is set back.
    if last and tonumber(millis) >= at then at, number = tonumber(millis), math.max(number, n + 1) end
  end
  id = string.format('%.0f-%.0f', at, number)
  redis.call('XADD', ARGV[1] == 'changes' and KEYS[1] or KEYS[2], id, 'e', ARGV[2])
end
redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[5])
local spare, upto = redis.call('XLEN', KEYS[1]) - ARGV[3], nil
if spare > 0 then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', math.min(spare, 100))) do
    local millis, number = string.match(entry[1], '^(%d+)-(%d+)$')
    if millis + ARGV[4] > now then break end
    upto = millis .. '-' .. string.format('%.0f', number + 1)
  end
end
if upto then redis.call('XTRIM', KEYS[1], 'MINID', upto) end
return {id, redis.call('XLEN', KEYS[1])}
