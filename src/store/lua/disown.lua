-- Takes a device out of a chat, unless its user is in it: a call that is late must not undo a new membership.
-- KEYS members, from, cursor, fence
-- ARGV user ("": of nobody), device
-- Gives 1; 0 when the user is in the chat, and nothing changed
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
-- `from` goes first: without it nothing is owed and no cursor moves.
for i = 2, 4 do redis.call('HDEL', KEYS[i], ARGV[2]) end
return 1
