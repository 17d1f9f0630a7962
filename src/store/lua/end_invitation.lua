-- Ends an invitation, as the caller read it.
-- KEYS invitations, answers
-- ARGV chat, "<since when> <who invites>"
-- Returns 1 if it was this invitation
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('INCR', KEYS[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
