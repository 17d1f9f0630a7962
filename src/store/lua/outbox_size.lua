-- Counts the messages that NSQ hasn't confirmed, and reads the beginning of the lowest, which contains when it was
-- accepted.
-- KEYS meta, log, outbox
-- Returns {node or "", count, beginning or ""}
local count, entry = redis.call('ZCARD', KEYS[3]), nil
if count > 0 then
  local lowest = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
  entry = redis.call('XRANGE', KEYS[2], lowest .. '-0', lowest .. '-0')[1]
end
return {redis.call('HGET', KEYS[1], 'node') or '', count, entry and string.sub(entry[2][2], 1, 512) or ''}
