-- Tells whoever hears the chat that a member types, unless the chat has too many members. Nothing is written.
-- KEYS members
-- ARGV user, how many members are not too many, doorbell channel
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('PUBLISH', ARGV[3], 'typing ' .. ARGV[1])
return 1
