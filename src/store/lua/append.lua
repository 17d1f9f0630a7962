-- Appends a message: the one script on the path of every message, so it is kept small. Measured on Redis 7.0.15, with a
-- 330-byte message: 17 us of Redis's CPU a call, of which 1.5 for `bytes` and `seq_offset`, 1 for `segment`. (`trim`
-- does the rest, beside it.)
-- KEYS meta, members, key as older builds kept it, log, outbox, two hashes of keys, arriving: members whose queues
--      aren't known to exist. No queue of theirs receives what is published before they are; segment: what each user
--      has sent since the last mark, as count * 2^36 + bytes; two hashes of how many keys each has; cursor
-- ARGV user, fingerprint, at, frame before its seq, frame behind it, milliseconds that the key is kept, doorbell
--      channel, the store's sequence offset, its clock in seconds (0: it has none), the key's name in the hashes, the
--      maximum bytes of the log (0: it accepts nothing)
-- Returns nil (not a member), "<seq> <at> <fingerprint>" (the key was seen), {"full"} or {seq, node, epoch, 1 if a
--      member is arriving, how many devices have a queue}
local meta = redis.call('HMGET', KEYS[1], 'head', 'node', 'lift', 'bytes', 'epoch', 'keyed', 'freed')
if not meta[1] or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return false end
local seen = redis.call('HGET', KEYS[6], ARGV[10]) or redis.call('HGET', KEYS[7], ARGV[10]) or redis.call('GET', KEYS[3])
if seen then return seen end

local head, seq_offset = meta[1] + 1, ARGV[8] - (meta[3] or 0)
-- An older copy of the data was restored since the last message: the head rises above all numbers that may have been
-- assigned since that copy.
if seq_offset > 0 then head = head + seq_offset end
local seq = string.format('%.0f', head)
local body = ARGV[4] .. seq .. ARGV[5]
-- The epoch follows the frame: it separates users who left before this message from those who didn't.
local epoch = '0'
if meta[5] then epoch, body = meta[5], body .. '\n' .. meta[5] end
-- The log wasn't trimmed for a while, or can't be. (A chat of an older build reports what it dropped with its next
-- trim.)
local most = tonumber(ARGV[11])
if most == 0 or meta[7] and (meta[4] or 0) - meta[7] + #body > most then return {'full'} end
-- First the write that may be refused (memory, a log that is ahead of the head): a refusal then leaves nothing behind.
redis.call('XADD', KEYS[4], seq .. '-0', 'm', body)
redis.call('HSET', KEYS[1], 'head', seq, 'bytes', string.format('%.0f', (meta[4] or 0) + #body))
if seq_offset > 0 then redis.call('HSET', KEYS[1], 'lift', ARGV[8]) end
-- The hashes alternate: what is in the one that is reused next is old enough, by a clock that nobody sets.
local which, since = string.match(meta[6] or '', '^(%d) (%d+)$')
local clock = ARGV[9] == '0' and redis.call('TIME')[1] or ARGV[9]
if which and (tonumber(since) > 1e9) ~= (tonumber(clock) > 1e9) then
  -- A store without a name counts Redis's seconds instead: the time has started again, and nothing is old.
  redis.call('HSET', KEYS[1], 'keyed', which .. ' ' .. clock)
elseif not which or (clock - since) * 1000 >= tonumber(ARGV[6]) then
  local function let_go(one)
    -- The next account reports the users of these keys.
    for _, user in ipairs(redis.call('HKEYS', KEYS[10 + one])) do redis.call('HINCRBY', KEYS[9], user, 0) end
    redis.call('UNLINK', KEYS[6 + one], KEYS[10 + one])
  end
  if which and (clock - since) * 1000 >= 2 * ARGV[6] then let_go(which) end
  which = which == '0' and '1' or '0'
  let_go(which)
  redis.call('HSET', KEYS[1], 'keyed', which .. ' ' .. clock)
end
redis.call('HSET', KEYS[6 + which], ARGV[10], seq .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
redis.call('HINCRBY', KEYS[9], ARGV[1], string.format('%.0f', 68719476736 + #body))
redis.call('ZADD', KEYS[5], seq, seq)
redis.call('PUBLISH', ARGV[7], seq)
return {seq, meta[2], epoch, redis.call('EXISTS', KEYS[8]), redis.call('HLEN', KEYS[12])}
