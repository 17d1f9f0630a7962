-- Writes how far a termination is. It only goes forward: a write that comes late, of a worker that others have overtaken,
-- changes nothing.
-- KEYS termination
-- ARGV its JSON, its state, how many lines its receipt has, milliseconds that it is kept (0: for ever)
-- Gives the state that stands
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
