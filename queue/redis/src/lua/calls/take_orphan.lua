-- Takes the orphan of a call that would be forgotten first.
-- Arguments: 2: tenant and digest of the call.
-- Returns its job id, nil when there is none.
functions.take_orphan = function(args)
  local orphans = key('orphans', args[2])
  call('ZREMRANGEBYSCORE', orphans, '-inf', now)
  return call('ZPOPMIN', orphans)[1] or false
end
