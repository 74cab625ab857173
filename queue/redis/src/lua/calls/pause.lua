-- Stops or lets go on the claims of the shard or of one tenant. A shard that goes on is open, whatever its
-- upstream did.
-- Arguments: 2: tenant, '' for the shard; 3: 1 to stop, 0 to go on.
-- Returns 1.
functions.pause = function(args)
  flows.load()
  local o = args[2] == '' and lane or flows.touch_named(args[2])
  local opens = o == lane and args[3] == '0'
  owner.change_rules(o, function(r)
    r[PAUSED] = tonumber(args[3])
    if opens then r[NOT_BEFORE] = 0 end
  end)
  if opens then health.open() end
  call(args[3] == '1' and 'SADD' or 'SREM', P .. 'paused', args[2])
  commit()
  return 1
end
