-- Lifts the bar on a user. A late call changes nothing: see the version.
-- KEYS bar, answers
-- ARGV version
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
