-- An edge lives. Gives the silent ones that have notes; the silent ones without leave the list.
-- KEYS edges, counts
-- ARGV edge, milliseconds of silence
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local dead = {}
for _, edge in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))) do
  if edge ~= ARGV[1] then
    if redis.call('HEXISTS', KEYS[2], edge) == 1 then
      dead[#dead + 1] = edge
    else
      redis.call('ZREM', KEYS[1], edge)
    end
  end
end
return dead
