-- Ends a job: at once while it waits, by its worker while it runs.
-- Arguments: 2: job id; 3: tenant.
-- Returns 1, or 0 when the tenant has no such job.
functions.cancel = function(args)
  local j = jobs.get(args[2])
  if not j or j.tenant ~= args[3] then return 0 end
  flows.load({ j.tenant }, 1)
  if j.state == 'r' then
    jobs.set(j, FLAG.cancelling, true)
    lane[CANCELLING] = lane[CANCELLING] + call('SADD', CANCELS, j.id)
    jobs.save(j)
    flows.save()
    news[#news + 1] = 'C' .. j.id
    publish()
  elseif j.state == 'q' or j.state == 'h' or j.state == 'w' then
    jobs.withdraw(j)
    ends.finish(j, 'c', '')
    commit()
  end
  return 1
end
