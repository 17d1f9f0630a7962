-- Raises a chat's head to a number that was seen, because it was assigned once: an older copy of the data doesn't know
-- it.
-- KEYS meta
-- ARGV seq
-- Returns the head; 0 if there is no such chat
local head = redis.call('HGET', KEYS[1], 'head')
if not head then return 0 end
if tonumber(ARGV[1]) <= tonumber(head) then return head end
redis.call('HSET', KEYS[1], 'head', ARGV[1])
return ARGV[1]
