-- Sends a message: the one script on the way of each of them, so it is kept small. Measured on Redis 7.0.15, with a
-- 330-byte message: 16 us of Redis's CPU a call, of which 1.5 for `bytes` and `lift`. (`trim` does the rest, beside it.)
-- KEYS meta, members, key as older builds kept it, log, outbox, two hashes of keys,
--      arriving: members whose queues aren't known to be there. What is published before they are is in no queue of theirs.
-- ARGV user, fingerprint, at, frame before its seq, frame behind it, milliseconds that the key is kept, doorbell channel,
--      the store's lift, its clock in seconds (0: it has none), the key's name in the hashes
-- Gives nil (not a member), "<seq> <at> <fingerprint>" (the key was seen) or {seq, node, epoch, 1 if somebody arrives}
local meta = redis.call('HMGET', KEYS[1], 'head', 'node', 'lift', 'bytes', 'epoch', 'keyed')
if not meta[1] or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return false end
local seen = redis.call('HGET', KEYS[6], ARGV[10]) or redis.call('HGET', KEYS[7], ARGV[10]) or redis.call('GET', KEYS[3])
if seen then return seen end

local head, lift = meta[1] + 1, ARGV[8] - (meta[3] or 0)
-- An older copy of the data was brought back since the last message: above all that may have been given since that copy.
if lift > 0 then head = head + lift end
local seq = string.format('%.0f', head)
local body = ARGV[4] .. seq .. ARGV[5]
-- Behind the frame stands the epoch: who left before this message can be told from who didn't.
local epoch = '0'
if meta[5] then epoch, body = meta[5], body .. '\n' .. meta[5] end
-- First what may be refused (memory, a log that is ahead of the head): then nothing has happened.
redis.call('XADD', KEYS[4], seq .. '-0', 'm', body)
redis.call('HSET', KEYS[1], 'head', seq, 'bytes', string.format('%.0f', (meta[4] or 0) + #body))
if lift > 0 then redis.call('HSET', KEYS[1], 'lift', ARGV[8]) end
-- The hashes take turns: what is in the one that is taken up again is old enough, by a clock that nobody sets.
local which, since = string.match(meta[6] or '', '^(%d) (%d+)$')
local clock = ARGV[9] == '0' and redis.call('TIME')[1] or ARGV[9]
if which and (tonumber(since) > 1e9) ~= (tonumber(clock) > 1e9) then
  -- A store without a name counts Redis's seconds instead: the time has begun anew, and nothing is old.
  redis.call('HSET', KEYS[1], 'keyed', which .. ' ' .. clock)
elseif not which or (clock - since) * 1000 >= tonumber(ARGV[6]) then
  if which and (clock - since) * 1000 >= 2 * ARGV[6] then redis.call('UNLINK', KEYS[6], KEYS[7]) end
  which = which == '0' and '1' or '0'
  redis.call('UNLINK', KEYS[6 + which])
  redis.call('HSET', KEYS[1], 'keyed', which .. ' ' .. clock)
end
redis.call('HSET', KEYS[6 + which], ARGV[10], seq .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[5], seq, seq)
redis.call('PUBLISH', ARGV[7], seq)
return {seq, meta[2], epoch, redis.call('EXISTS', KEYS[8])}
