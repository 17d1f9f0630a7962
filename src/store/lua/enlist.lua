#!lua flags=allow-oom
-- Adds an id to a work list.
-- KEYS list
-- ARGV id
return redis.call('SADD', KEYS[1], ARGV[1])
