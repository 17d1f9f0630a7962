-- Returns the lowest messages that NSQ hasn't confirmed. Removes those that the log lost: they can't be published any
--      more.
-- KEYS meta, log, outbox, arriving
-- ARGV most messages, most bytes of them (but at least one)
-- Returns {node or "", 1 if a member is arriving, seq, body, seq, body, ...}. (In one step: a member who joins later
--      doesn't receive these.)
local out = {redis.call('HGET', KEYS[1], 'node') or '', redis.call('EXISTS', KEYS[4])}
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if not oldest then
  redis.call('DEL', KEYS[3])
  return out
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.match(oldest[1], '%d+'))
local bytes = 0
for _, seq in ipairs(redis.call('ZRANGE', KEYS[3], 0, ARGV[1] - 1)) do
  local entry = redis.call('XRANGE', KEYS[2], seq .. '-0', seq .. '-0')[1]
  if entry then
    bytes = bytes + #entry[2][2]
    if bytes > tonumber(ARGV[2]) and #out > 2 then break end
    out[#out + 1] = seq
    out[#out + 1] = entry[2][2]
  end
end
return out
