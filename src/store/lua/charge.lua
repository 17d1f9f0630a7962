#!lua flags=allow-oom
-- Records how many bytes of a user a chat holds, unless a later account of the chat was recorded.
-- KEYS stored
-- ARGV chat, bytes, the number of the account
-- Returns how many bytes all chats hold
local is, number = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+)$')
if number and tonumber(number) > tonumber(ARGV[3]) then return redis.call('HGET', KEYS[1], 'total') or '0' end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
local total = redis.call('HINCRBY', KEYS[1], 'total', string.format('%.0f', ARGV[2] - (is or 0)))
if total <= 0 then redis.call('HDEL', KEYS[1], 'total') end
return string.format('%.0f', math.max(total, 0))
