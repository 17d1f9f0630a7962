-- Opens a link, if there is room for one more that waits.
-- KEYS link, code, open
-- ARGV link, milliseconds it may be decided, milliseconds it is kept in all, how many may wait, code, secret, name,
--      platform, the user that it is bound to or ""
-- Gives "opened" (also when it was), "full" or "taken"
if redis.call('EXISTS', KEYS[1]) == 1 then return 'opened' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 'full' end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3]) then return 'taken' end
local over = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'code', ARGV[5], 'secret', ARGV[6], 'name', ARGV[7], 'platform', ARGV[8], 'bound', ARGV[9],
  'state', 'pending', 'over', over)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[3], over, ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 'opened'
