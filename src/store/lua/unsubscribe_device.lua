-- Unsubscribes a device from a chat, unless its user is in it: a late call must not undo a new membership.
-- KEYS members, from, cursor, fence, behind
-- ARGV user ("": of nobody), device
-- Returns 1; 0 if the user is in the chat, and nothing changed
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
-- `from` goes first: without it the device isn't subscribed and no cursor moves.
for i = 2, 5 do redis.call('HDEL', KEYS[i], ARGV[2]) end
return 1
