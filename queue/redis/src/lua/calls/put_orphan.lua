-- Keeps a job as an orphan of a call: in a sorted set, by the time until which its caller may retry.
-- Arguments: 2: tenant and digest of the call; 3: job id; 4: for how many ms; 5: most orphans of a call.
-- Returns nil.
functions.put_orphan = function(args)
  local orphans, ttl = key('orphans', args[2]), args[4]
  call('ZADD', orphans, now + tonumber(ttl), args[3])
  call('ZREMRANGEBYRANK', orphans, 0, -tonumber(args[5]) - 1)
  -- The set lives as long as its last member.
  call('PEXPIRE', orphans, ttl, 'NX')
  call('PEXPIRE', orphans, ttl, 'GT')
  return false
end
