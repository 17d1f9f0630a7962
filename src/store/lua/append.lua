-- Sends a message: the one script on the way of each of them, so it is kept small.
-- KEYS meta, members, key, log, outbox, ages
-- ARGV user, fingerprint, at, frame before its seq, frame behind it, milliseconds that the key is kept,
--      messages that the log keeps, seconds that the log keeps, doorbell channel
-- Gives nil (not a member), "<seq> <at> <fingerprint>" (the key was seen) or {seq, node}
local meta = redis.call('HMGET', KEYS[1], 'head', 'node')
if not meta[1] or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return false end
local seen = redis.call('GET', KEYS[3])
if seen then return seen end

local head = meta[1] + 1
local seq = string.format('%.0f', head)
-- First what may be refused (memory, a log that is ahead of the head): then nothing has happened.
redis.call('XADD', KEYS[4], seq .. '-0', 'm', ARGV[4] .. seq .. ARGV[5])
redis.call('HSET', KEYS[1], 'head', seq)
redis.call('SET', KEYS[3], seq .. ' ' .. ARGV[3] .. ' ' .. ARGV[2], 'PX', ARGV[6])
redis.call('ZADD', KEYS[5], seq, seq)
redis.call('PUBLISH', ARGV[9], seq)
if head % 64 ~= 0 then return {seq, meta[2]} end

-- Every 64th message: what the log keeps no longer, by number, or by age (every 64th seq has its time in `ages`).
local now, kept, trim = tonumber(redis.call('TIME')[1]), tonumber(ARGV[7]), 0
redis.call('RPUSH', KEYS[6], seq .. ' ' .. now)
trim = head - kept
while true do
  local mark, time = string.match(redis.call('LINDEX', KEYS[6], 0) or '', '(%d+) (%d+)')
  if not mark then break end
  mark = tonumber(mark)
  if mark > trim then
    if time + ARGV[8] > now then break end
    trim = mark
  end
  redis.call('LPOP', KEYS[6])
end
-- What NSQ hasn't got yet stays longer, up to four times as many: until then only the log can bring it to anyone.
local unsent = redis.call('ZRANGE', KEYS[5], 0, 0)[1] - 1
if unsent < trim then trim = math.max(unsent, head - 4 * kept) end
if trim > 0 then redis.call('XTRIM', KEYS[4], 'MINID', '~', string.format('%.0f-0', trim + 1)) end
return {seq, meta[2]}
