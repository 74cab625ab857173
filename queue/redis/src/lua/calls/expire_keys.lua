-- Has idempotency keys live for so long from now.
-- Arguments: 2: for how many ms; then each key with its tenant, `tenant:key`. One that is not there is left out.
-- Returns 1.
functions.expire_keys = function(args)
  for i = 3, #args do call('PEXPIRE', key('idem', args[i]), args[2]) end
  return 1
end
