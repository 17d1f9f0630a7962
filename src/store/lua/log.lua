-- Returns a page of the log, up to the first hole: numbers are missing where an older copy of the data was restored.
-- KEYS meta, log, members
-- ARGV from, most messages, most bytes (at least one message is returned); for a reader who must be a member also the
--      user, and where their subscription begins: not below the boundary of their membership
-- Returns nil (not a member, or only since later) or {head, floor or "", seq, body, seq, body, ...}. The floor is the
--      oldest number in the log or, if `from` doesn't exist any more, the next that does; "" if there is none.
if ARGV[4] then
  local boundary = string.match(redis.call('HGET', KEYS[3], ARGV[4]) or '', '^%d+')
  if not boundary or tonumber(boundary) > tonumber(ARGV[5]) then return false end
end
local page = {redis.call('HGET', KEYS[1], 'head') or '0', ''}
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if not oldest then return page end
page[2] = string.match(oldest[1], '%d+')
local left, room, from = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[1]
local wanted = math.max(tonumber(from), tonumber(page[2]))
while left > 0 do
  -- In small steps: a message may have 64 KiB, and a larger step would read messages that don't fit.
  local step = math.min(left, 32)
  local got = redis.call('XRANGE', KEYS[2], from .. '-0', '+', 'COUNT', step)
  for _, entry in ipairs(got) do
    local body = entry[2][2]
    from = string.match(entry[1], '%d+')
    local seq = tonumber(from)
    if seq > wanted then
      if #page > 2 then return page end
      page[2], wanted = from, seq
    end
    room = room - #body
    if room < 0 and #page > 2 then return page end
    page[#page + 1] = from
    page[#page + 1] = body
    wanted = wanted + 1
  end
  if #page == 2 and wanted <= tonumber(page[1]) then page[2] = '' end
  if #got < step then return page end
  left = left - step
  from = string.format('%.0f', from + 1)
end
return page
