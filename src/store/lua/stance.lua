-- Returns a user's stance towards another user who wants to reach them: {1 if blocked, milliseconds of the bar or 0,
--      version}
-- KEYS blocks, bar, answers
-- ARGV the other user
return {redis.call('HEXISTS', KEYS[1], ARGV[1]), math.max(redis.call('PTTL', KEYS[2]), 0), redis.call('GET', KEYS[3]) or '0'}
