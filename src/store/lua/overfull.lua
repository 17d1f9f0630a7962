#!lua flags=allow-oom
-- Finds the devices whose queue of a chat holds more than it may: the bytes appended since the device's cursor, or
-- since the queue was emptied. The search runs when enough bytes were appended since the last search to make a
-- difference, and until the queues are emptied. Where the log doesn't reach back to a cursor, `behind` records from
-- where on the device's queue has been filling: it holds nothing from before, which `trim` relies on.
-- KEYS meta, ages, cursor, behind, standing (see trim)
-- ARGV maximum bytes of one queue, of all queues of the chat, and the bytes that each queue may always hold
-- Returns {bytes ever appended, node or "", device, ...}
local meta = redis.call('HMGET', KEYS[1], 'head', 'bytes', 'freed', 'scanned', 'node')
local bytes = tonumber(meta[2] or 0)
local answer = {string.format('%.0f', bytes), meta[5] or ''}
local count = redis.call('HLEN', KEYS[3])
if not meta[1] or not meta[3] or count == 0 then return answer end
local most = math.min(tonumber(ARGV[1]), math.max(ARGV[2] / count, tonumber(ARGV[3])))
if bytes - (meta[4] or 0) < most / 8 then return answer end
local head, freed, uptos, totals = tonumber(meta[1]), tonumber(meta[3]), {}, {}
for _, line in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local upto, written = string.match(line, '^(%d+) %d+ (%d+)')
  if upto then
    uptos[#uptos + 1] = tonumber(upto)
    totals[#totals + 1] = tonumber(written)
  end
end
uptos[#uptos + 1], totals[#totals + 1] = head, bytes
-- Returns the last of these numbers that a cursor has reached.
local function last(numbers, most, cursor)
  local low, high = 0, most
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if numbers[middle] <= cursor then low = middle else high = middle - 1 end
  end
  return low
end
-- Where a queue begins if the log doesn't reach back to its cursor: what it holds is standing, if it isn't too old.
local stood
local function begins(cursor)
  if not stood then
    stood = {uptos = {}, totals = {}, begun = freed}
    for i, line in ipairs(redis.call('LRANGE', KEYS[5], 0, -1)) do
      local upto, written = string.match(line, '^(%d+) %d+ (%d+)')
      stood.uptos[i], stood.totals[i] = tonumber(upto), tonumber(written)
      if i == 1 then
        stood.begun = stood.totals[1]
        for size in string.gmatch(line, ' [^ :]+:(%d+)') do stood.begun = stood.begun - size end
      end
    end
  end
  return stood.totals[last(stood.uptos, #stood.uptos, cursor)] or stood.begun
end
local cursors = redis.call('HGETALL', KEYS[3])
for i = 1, #cursors, 2 do
  local device, cursor = cursors[i], tonumber(cursors[i + 1])
  if cursor >= head then
    redis.call('HDEL', KEYS[4], device)
  else
    -- The last mark that the cursor has reached; it hasn't reached the next one.
    local low = last(uptos, #uptos - 1, cursor)
    local since, begun = tonumber(redis.call('HGET', KEYS[4], device)), totals[low]
    if begun then
      local part = (cursor - uptos[low]) / (uptos[low + 1] - uptos[low])
      begun = math.floor(begun + part * (totals[low + 1] - begun))
      if since and since <= begun then
        redis.call('HDEL', KEYS[4], device)
        since = nil
      end
    elseif not since then
      begun = begins(cursor)
      redis.call('HSET', KEYS[4], device, string.format('%.0f', begun))
    end
    if bytes - (since or begun) > most then answer[#answer + 1] = device end
  end
end
if #answer == 2 then redis.call('HSET', KEYS[1], 'scanned', answer[1]) end
return answer
