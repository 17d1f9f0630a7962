-- Publishes to the chat's subscribers that a member types, unless the chat has too many members. Writes nothing.
-- KEYS members
-- ARGV user, the maximum number of members, doorbell channel
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('PUBLISH', ARGV[3], 'typing ' .. ARGV[1])
return 1
