-- Remembers layouts in the sorted set `layouts`, by the time of their last use, and forgets unused ones. The prefix belongs
-- to no shard.
-- Arguments: from 2: the layouts in use.
-- Returns 1.
functions.remember_layouts = function(args)
  for n = 2, #args do call('ZADD', P .. 'layouts', now, args[n]) end
  call('ZREMRANGEBYSCORE', P .. 'layouts', '-inf', now - RETENTION - LAYOUT_GRACE)
  return 1
end
