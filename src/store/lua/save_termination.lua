#!lua flags=allow-oom
-- Saves the progress of a termination, forward only: a late write, from a worker that others have overtaken, changes
-- nothing.
-- KEYS termination
-- ARGV its JSON, its state, how many lines its receipt has, milliseconds that it is kept (0: permanently)
-- Returns the state in force
local stands = redis.call('GET', KEYS[1])
if stands then
  local was = cjson.decode(stands)
  local back = was.state == 'done' or (was.state == 'pending' and ARGV[2] == 'accepted')
  if back or (ARGV[2] ~= 'done' and #was.receipt.channels > tonumber(ARGV[3])) then return was.state end
end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
end
return ARGV[2]
