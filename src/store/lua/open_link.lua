-- Opens a link, if there is room for one more waiting link in all, of its share (an eighth of the free places) and of
-- its neighbourhood (a quarter of them).
-- KEYS link, code, open, the waiting ones of the share, those of the neighbourhood (of a user, who has none: the share
--      again)
-- ARGV link, milliseconds it may be decided, milliseconds it is kept in all, how many may wait, code, secret, name,
--      platform, the user that it is bound to or ""
-- Returns "opened" (also if it was), "full", "share" or "taken"
if redis.call('EXISTS', KEYS[1]) == 1 then return 'opened' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for place = 3, 5 do redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', string.format('%.0f', now)) end
local free = ARGV[4] - redis.call('ZCARD', KEYS[3])
if free <= 0 then return 'full' end
if redis.call('ZCARD', KEYS[4]) >= math.ceil(free / 8) then return 'share' end
if redis.call('ZCARD', KEYS[5]) >= math.ceil(free / 4) then return 'share' end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3]) then return 'taken' end
local over = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'code', ARGV[5], 'secret', ARGV[6], 'name', ARGV[7], 'platform', ARGV[8], 'bound', ARGV[9],
  'share', KEYS[4], 'neighbourhood', KEYS[5], 'state', 'pending', 'over', over)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for place = 3, 5 do
  redis.call('ZADD', KEYS[place], over, ARGV[1])
  redis.call('PEXPIRE', KEYS[place], ARGV[3])
end
return 'opened'
