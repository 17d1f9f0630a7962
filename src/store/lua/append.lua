-- Sends a message: the one script on the way of each of them, so it is kept small. Measured on Redis 7.0.15, with a
-- 330-byte message: 16.6 us of Redis's CPU a call (of which 1.7 for the count of bytes and for `lift`); in a chat of 3,000
-- devices 28, because every 64th message looks at all cursors.
-- KEYS meta, members, key, log, outbox, ages, cursor
-- ARGV user, fingerprint, at, frame before its seq, frame behind it, milliseconds that the key is kept, doorbell channel,
--      the store's lift; of the log: messages that it keeps in any case, most messages, most bytes, most seconds
-- Gives nil (not a member), "<seq> <at> <fingerprint>" (the key was seen) or {seq, node}
local meta = redis.call('HMGET', KEYS[1], 'head', 'node', 'lift', 'bytes')
if not meta[1] or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return false end
local seen = redis.call('GET', KEYS[3])
if seen then return seen end

local head, lift = meta[1] + 1, ARGV[8] - (meta[3] or 0)
-- An older copy of the data was brought back since the last message: above all that may have been given since that copy.
if lift > 0 then head = head + lift end
local seq = string.format('%.0f', head)
local frame = ARGV[4] .. seq .. ARGV[5]
local bytes = string.format('%.0f', (meta[4] or 0) + #frame)
-- First what may be refused (memory, a log that is ahead of the head): then nothing has happened.
redis.call('XADD', KEYS[4], seq .. '-0', 'm', frame)
redis.call('HSET', KEYS[1], 'head', seq, 'bytes', bytes)
if lift > 0 then redis.call('HSET', KEYS[1], 'lift', ARGV[8]) end
redis.call('SET', KEYS[3], seq .. ' ' .. ARGV[3] .. ' ' .. ARGV[2], 'PX', ARGV[6])
redis.call('ZADD', KEYS[5], seq, seq)
redis.call('PUBLISH', ARGV[7], seq)
if head % 64 ~= 0 then return {seq, meta[2]} end

-- Every 64th message: what the log keeps no longer. Of every 64th seq `ages` has the time, and the bytes written by then.
local now = tonumber(redis.call('TIME')[1])
redis.call('RPUSH', KEYS[6], seq .. ' ' .. now .. ' ' .. bytes)
local function mark(at)
  local upto, time, written = string.match(redis.call('LINDEX', KEYS[6], at) or '', '(%d+) (%d+) ?(%d*)')
  return tonumber(upto), tonumber(time), tonumber(written) or 0
end
-- The last seq behind which there are this many messages, as far as the marks tell.
local function before(messages) return mark(-1 - math.ceil(messages / 64)) or 0 end

-- What is too much or too old, whoever may need it.
local most, size, trim, limit = tonumber(ARGV[10]), tonumber(ARGV[11]), before(ARGV[10]), before(4 * ARGV[10])
local at, upto, time, written = 0, mark(0)
while upto do
  local behind = bytes - written
  if behind >= 4 * size then limit = math.max(limit, upto) end
  if behind < size and time + ARGV[12] > now then break end
  trim = math.max(trim, upto)
  at = at + 1
  upto, time, written = mark(at)
end
-- What every device has that was owed it, but for the newest.
local everybodys = before(ARGV[9])
if everybodys > trim then
  for _, cursor in ipairs(redis.call('HVALS', KEYS[7])) do everybodys = math.min(everybodys, tonumber(cursor)) end
  trim = math.max(trim, everybodys)
end
-- What NSQ hasn't got yet stays longer, up to four times as much: until then only the log can bring it to anyone.
local unsent = redis.call('ZRANGE', KEYS[5], 0, 0)[1] - 1
if unsent < trim then trim = math.max(unsent, limit) end
if trim > 0 then
  redis.call('XTRIM', KEYS[4], 'MINID', '~', string.format('%.0f-0', trim + 1))
  while (mark(0) or head) <= trim do redis.call('LPOP', KEYS[6]) end
end
return {seq, meta[2]}
