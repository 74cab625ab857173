-- Deletes an ended job, with all that is kept of it.
-- Arguments: 2: job id; 3: tenant.
-- Returns 1, or 0 when the tenant has no such job, or it has not ended.
functions.delete = function(args)
  local j = jobs.get(args[2])
  if not j or j.tenant ~= args[3] then return 0 end
  if j.state == 'q' or j.state == 'h' or j.state == 'w' or j.state == 'r' then return 0 end
  call('ZREM', DEAD, j.id)
  -- Its line in the tenant's list is passed over, as that of a job whose retention is over.
  call('DEL', JOB .. j.id, key('body', j.id), key('errors', j.id), key('events', j.id), key('attached', j.id))
  return 1
end
