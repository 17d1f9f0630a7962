-- Returns the newest messages below a number, for a member. Skips holes.
-- KEYS meta, log, members
-- ARGV before, lowest, most messages, most bytes (at least one message is returned), user, where their subscription
--      begins: not below the boundary of their membership
-- Returns nil (not a member, or only since later) or {head, floor or "", seq, body, seq, body, ...}, the newest first.
--      The floor is the oldest number in the log; "" if there is none.
local boundary = string.match(redis.call('HGET', KEYS[3], ARGV[5]) or '', '^%d+')
if not boundary or tonumber(boundary) > tonumber(ARGV[6]) then return false end
local page = {redis.call('HGET', KEYS[1], 'head') or '0', ''}
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if not oldest then return page end
page[2] = string.match(oldest[1], '%d+')
local left, room, upto = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[1]) - 1
while left > 0 and upto >= tonumber(ARGV[2]) do
  -- In small steps: a message may have 64 KiB, and a larger step would read messages that don't fit.
  local step = math.min(left, 32)
  local got = redis.call('XREVRANGE', KEYS[2], string.format('%.0f-0', upto), ARGV[2] .. '-0', 'COUNT', step)
  for _, entry in ipairs(got) do
    local body = entry[2][2]
    room = room - #body
    if room < 0 and #page > 2 then return page end
    local seq = string.match(entry[1], '%d+')
    page[#page + 1] = seq
    page[#page + 1] = body
    upto = tonumber(seq) - 1
  end
  if #got < step then return page end
  left = left - step
end
return page
