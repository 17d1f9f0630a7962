-- Deletes the read offsets of chats that aren't on the user's list: earlier builds left them there.
-- KEYS read, chats
-- Returns how many
local gone = 0
for _, chat in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('HEXISTS', KEYS[2], chat) == 0 then gone = gone + redis.call('HDEL', KEYS[1], chat) end
end
return gone
