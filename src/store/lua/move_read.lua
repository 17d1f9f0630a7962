-- Moves a read offset forward, never back, and only in a chat that is on the user's list: offsets end with membership.
-- Redis notifies the key's subscribers of the change.
-- KEYS read, chats
-- ARGV chat, seq, device or "-"
-- Returns the read offset
local stands = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '0', '%d+')
if tonumber(ARGV[2]) <= tonumber(stands) or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return stands end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return ARGV[2]
