#!lua flags=allow-oom
-- Trims a chat's log to its bounds, and reports the users of what remains. `ages` has, for each trim, the head, the
-- second, the bytes that had been written by then, and how many of those since the mark before belong to whom. Measured
-- with 64 messages a call: 60 us; with 3,000 devices, whose cursors it reads, 0.9 ms. While something is standing
-- (below) it reads them too: 65 us with 8, 0.8 to 1.2 ms with 3,000. Releasing 1,000 marks at once takes 4 ms. What is
-- dropped because it is too much, and a device hasn't acknowledged yet, may be in that device's queue: the mark moves
-- to `standing`, and its senders are charged until all devices have passed it or it is as old as a log's entries get.
-- The senders' quotas limit these marks, and so does what a queue may hold until it is emptied (see overfull): some
-- 7,000 of 64 short messages each.
-- KEYS meta, log, outbox, ages, cursor, two hashes of keys, segment (see append), spent: bytes of each user in the log
--      and of what is standing, up to the last mark; two hashes of how many keys each has; standing, behind (see
--      overfull)
-- ARGV messages that are always kept, most messages, most bytes, most seconds, the store's clock in seconds (0: it has
--      none), seconds that keys are kept, bytes that a key counts, the store's sequence offset
-- Returns {the number of this account, user, bytes, ...}: of each user whose bytes differ from the last account
local meta, length = redis.call('HMGET', KEYS[1], 'head', 'bytes', 'keyed', 'freed'), redis.call('XLEN', KEYS[2])
local today = tonumber(redis.call('TIME')[1])
local now = ARGV[5] == '0' and today or tonumber(ARGV[5])
local changed = {}
local function everyone(key)
  for _, user in ipairs(redis.call('HKEYS', key)) do changed[user] = true end
end
local function account()
  if not meta[1] or next(changed) == nil then return {'0'} end
  local told = redis.call('HINCRBY', KEYS[1], 'told', 1)
  -- An older copy of the data was restored since: the number rises above all that may have been reported since that
  -- copy.
  if told <= tonumber(ARGV[8]) then
    told = ARGV[8] + 1
    redis.call('HSET', KEYS[1], 'told', string.format('%.0f', told))
  end
  local answer = {string.format('%.0f', told)}
  for user in pairs(changed) do
    local keys = (redis.call('HGET', KEYS[10], user) or 0) + (redis.call('HGET', KEYS[11], user) or 0)
    answer[#answer + 1] = user
    answer[#answer + 1] = string.format('%.0f', (redis.call('HGET', KEYS[9], user) or 0) + keys * ARGV[7])
  end
  return answer
end
-- In a chat without new messages, nothing reuses the hashes.
local which, since = string.match(meta[3] or '', '^(%d) (%d+)$')
local keyed = tonumber(since)
if keyed and (keyed > 1e9) ~= (now > 1e9) then
  -- By another clock (see `append`).
  redis.call('HSET', KEYS[1], 'keyed', which .. string.format(' %.0f', now))
elseif keyed and now - keyed >= 2 * ARGV[6] then
  everyone(KEYS[10])
  everyone(KEYS[11])
  redis.call('UNLINK', KEYS[6], KEYS[7], KEYS[10], KEYS[11])
end
if not meta[1] then
  redis.call('UNLINK', KEYS[4], KEYS[8], KEYS[9], KEYS[12])
  return account()
end
local head, bytes = tonumber(meta[1]), tonumber(meta[2] or 0)
-- An older build didn't count it.
local base = tonumber(meta[4])
if not base then
  base = math.max(bytes - ARGV[3], 0)
  redis.call('HSET', KEYS[1], 'freed', string.format('%.0f', base))
end
local function parse(line)
  local upto, time, written = string.match(line or '', '^(%d+) (%d+) ?(%d*)')
  return tonumber(upto), tonumber(time), tonumber(written) or 0
end
local function mark(at) return parse(redis.call('LINDEX', KEYS[4], at)) end
if (mark(-1) or 0) < head and (length > 0 or redis.call('EXISTS', KEYS[8]) == 1) then
  local line, sent = string.format('%.0f %d %.0f', head, now, bytes), redis.call('HGETALL', KEYS[8])
  for i = 1, #sent, 2 do
    local user, packed = sent[i], tonumber(sent[i + 1])
    local count = math.floor(packed / 68719476736)
    local size = string.format('%.0f', packed - count * 68719476736)
    -- (None: `append` has dropped the user's keys.)
    if count > 0 then
      redis.call('HINCRBY', KEYS[9], user, size)
      redis.call('HINCRBY', KEYS[10 + (which or 0)], user, count)
      line = line .. ' ' .. user .. ':' .. size
    end
    changed[user] = true
  end
  redis.call('UNLINK', KEYS[8])
  redis.call('RPUSH', KEYS[4], line)
end
-- Returns the last number behind which there are this many messages; 0 if there aren't.
local function before(messages) return length > messages and head - messages or 0 end

-- An older build wrote Redis's time instead of the store's clock.
local function old(time) return time + ARGV[4] <= (time > 1000000000 and today or now) end
local cursors, slowest
local function lowest()
  if not slowest then
    cursors, slowest = redis.call('HVALS', KEYS[5]), math.huge
    for _, cursor in ipairs(cursors) do slowest = math.min(slowest, tonumber(cursor)) end
  end
  return slowest
end
-- Returns whether a queue may hold what was appended up to a mark: a device hasn't acknowledged it, and its queue
--      wasn't emptied since. (To be asked of one mark after the other, oldest first.)
local others, emptied, passed, least
local function held(upto, written)
  if upto <= lowest() then return false end
  if not others then
    others, emptied, passed, least = math.huge, {}, 0, math.huge
    local counts, since = {}, redis.call('HGETALL', KEYS[13])
    for i = 1, #since, 2 do
      local cursor = redis.call('HGET', KEYS[5], since[i])
      if cursor then
        emptied[#emptied + 1] = {tonumber(cursor), tonumber(since[i + 1])}
        counts[cursor] = (counts[cursor] or 0) + 1
      end
    end
    table.sort(emptied, function(one, other) return one[1] < other[1] end)
    if #emptied == 0 then others, cursors = slowest, {} end
    for _, cursor in ipairs(cursors) do
      local count = counts[cursor] or 0
      if count > 0 then counts[cursor] = count - 1 else others = math.min(others, tonumber(cursor)) end
    end
  end
  while emptied[passed + 1] and emptied[passed + 1][1] < upto do
    passed = passed + 1
    least = math.min(least, emptied[passed][2])
  end
  return upto > others or written > least
end
local function give_back(line)
  for user, size in string.gmatch(line, ' ([^ :]+):(%d+)') do
    if redis.call('HINCRBY', KEYS[9], user, -size) <= 0 then redis.call('HDEL', KEYS[9], user) end
    changed[user] = true
  end
end
-- (If there are very many, the next trims release the rest.)
for _ = 1, 1024 do
  local upto, time, written = parse(redis.call('LINDEX', KEYS[12], 0))
  if not upto or not old(time) and held(upto, written) then break end
  give_back(redis.call('LPOP', KEYS[12]))
end
-- Drop what is too much or too old, whoever may need it.
local most, size = tonumber(ARGV[2]), tonumber(ARGV[3])
local trim, limit = before(most), before(4 * most)
local at, upto, time, written = 0, mark(0)
local freed = base
while upto do
  local behind = bytes - written
  -- If the log wasn't trimmed for so long that it accepts no more (see append), even the newest goes.
  local crowded = bytes - base > 4 * size + 4194304
  if behind >= 4 * size or crowded and behind >= 3 * size then limit = math.max(limit, upto) end
  if not crowded then
    if behind < size and not old(time) then break end
  end
  base = written
  trim = math.max(trim, upto)
  at = at + 1
  upto, time, written = mark(at)
end
-- Drop what every subscribed device has acknowledged, except the newest.
local everybodys = before(tonumber(ARGV[1]))
if everybodys > trim then trim = math.max(trim, math.min(everybodys, lowest())) end
-- What NSQ hasn't got yet stays longer, up to four times as much: until then only the log can bring it to anyone.
local unsent = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
if unsent and unsent - 1 < trim then trim = math.max(unsent - 1, limit) end
if length == 0 then trim = head end
if trim > 0 then
  redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', trim + 1))
  local was, torn = freed, false
  while (mark(0) or trim + 1) <= trim do
    local line, sum = redis.call('LPOP', KEYS[4]), 0
    for size in string.gmatch(line, ' [^ :]+:(%d+)') do sum = sum + size end
    local upto, time, written = parse(line)
    if sum > 0 and not old(time) and held(upto, written) then
      redis.call('RPUSH', KEYS[12], line)
    else
      give_back(line)
    end
    local upto_here = tonumber(string.match(line, '^%d+ %d+ (%d+)'))
    if upto_here then
      if sum ~= upto_here - freed then torn = true end
      freed = upto_here
    end
  end
  if freed ~= was then redis.call('HSET', KEYS[1], 'freed', string.format('%.0f', freed)) end
  if torn then
    -- A build that doesn't know these counts has sent or trimmed since: the marks are authoritative.
    everyone(KEYS[9])
    redis.call('UNLINK', KEYS[9])
    for _, key in ipairs({KEYS[12], KEYS[4]}) do
      for _, line in ipairs(redis.call('LRANGE', key, 0, -1)) do
        for user, size in string.gmatch(line, ' ([^ :]+):(%d+)') do
          redis.call('HINCRBY', KEYS[9], user, size)
          changed[user] = true
        end
      end
    end
  end
end
if length == 0 then
  if redis.call('EXISTS', KEYS[12]) == 0 then
    everyone(KEYS[9])
    redis.call('UNLINK', KEYS[9])
  end
  if meta[2] then redis.call('HSET', KEYS[1], 'freed', meta[2]) end
end
return account()
