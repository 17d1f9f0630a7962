-- Lets go of what a chat's log keeps no longer. `ages` has, for each time this was done, the head, the second, and the bytes
-- that had been written by then. Measured with 64 messages a call: 60 us; with 3,000 devices, whose
-- cursors it reads, 0.9 ms.
-- KEYS meta, log, outbox, ages, cursor, two hashes of keys
-- ARGV messages kept in any case, most messages, most bytes, most seconds, the store's clock in seconds (0: it has none),
--      seconds that keys are kept
local meta, length = redis.call('HMGET', KEYS[1], 'head', 'bytes', 'keyed'), redis.call('XLEN', KEYS[2])
local today = tonumber(redis.call('TIME')[1])
local now = ARGV[5] == '0' and today or tonumber(ARGV[5])
-- Where nobody speaks nobody takes up the hashes again.
local which, since = string.match(meta[3] or '', '^(%d) (%d+)$')
local keyed = tonumber(since)
if keyed and (keyed > 1e9) ~= (now > 1e9) then
  -- By another clock (see `append`).
  redis.call('HSET', KEYS[1], 'keyed', which .. string.format(' %.0f', now))
elseif keyed and now - keyed >= 2 * ARGV[6] then redis.call('UNLINK', KEYS[6], KEYS[7]) end
if not meta[1] or length == 0 then return redis.call('DEL', KEYS[4]) end
local head, bytes = tonumber(meta[1]), tonumber(meta[2] or 0)
local function mark(at)
  local upto, time, written = string.match(redis.call('LINDEX', KEYS[4], at) or '', '(%d+) (%d+) ?(%d*)')
  return tonumber(upto), tonumber(time), tonumber(written) or 0
end
if (mark(-1) or 0) < head then redis.call('RPUSH', KEYS[4], string.format('%.0f %d %.0f', head, now, bytes)) end
-- The last number behind which there are so many messages; 0 when there aren't.
local function before(messages) return length > messages and head - messages or 0 end

-- What is too much or too old, whoever may need it.
local most, size = tonumber(ARGV[2]), tonumber(ARGV[3])
local trim, limit = before(most), before(4 * most)
local at, upto, time, written = 0, mark(0)
while upto do
  local behind = bytes - written
  if behind >= 4 * size then limit = math.max(limit, upto) end
  -- An older build wrote Redis's time instead of the store's clock.
  if behind < size and time + ARGV[4] > (time > 1000000000 and today or now) then break end
  trim = math.max(trim, upto)
  at = at + 1
  upto, time, written = mark(at)
end
-- What every device has that was owed it, but for the newest.
local everybodys = before(tonumber(ARGV[1]))
if everybodys > trim then
  for _, cursor in ipairs(redis.call('HVALS', KEYS[5])) do everybodys = math.min(everybodys, tonumber(cursor)) end
  trim = math.max(trim, everybodys)
end
-- What NSQ hasn't got yet stays longer, up to four times as much: until then only the log can bring it to anyone.
local unsent = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
if unsent and unsent - 1 < trim then trim = math.max(unsent - 1, limit) end
if trim > 0 then
  redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', trim + 1))
  while (mark(0) or trim + 1) <= trim do redis.call('LPOP', KEYS[4]) end
end
return trim
