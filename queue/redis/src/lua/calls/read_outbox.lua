-- The ends that are due: where there are too many, half of them the oldest and half the newest. So no end waits
-- behind all those that were there before.
-- Arguments: 2: how many at most.
-- Returns the members by time, each with its score behind it.
functions.read_outbox = function(args)
  local most = tonumber(args[2])
  if call('ZCOUNT', OUTBOX, '-inf', now) <= most then
    return call('ZRANGEBYSCORE', OUTBOX, '-inf', now, 'WITHSCORES')
  end
  local newest = math.floor(most / 2)
  local page = call('ZRANGEBYSCORE', OUTBOX, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most - newest)
  local last = call('ZREVRANGEBYSCORE', OUTBOX, now, '-inf', 'WITHSCORES', 'LIMIT', 0, newest)
  for n = #last - 1, 1, -2 do page[#page + 1], page[#page + 2] = last[n], last[n + 1] end
  return page
end
