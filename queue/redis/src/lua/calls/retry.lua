-- Puts an ended job back, as if it had been accepted just now.
-- Arguments: 2: job id; 3: tenant; 4: the idempotency key that lives as long as the job, or ''.
-- Returns { 'ok' }; { 'none' } when the tenant has no such job; { 'state', letter } when it cannot be
--   retried; or { 'full', … } as enqueue does.
functions.retry = function(args)
  local j = jobs.get(args[2])
  if not j or j.tenant ~= args[3] then return { 'none' } end
  if j.state ~= 'f' and j.state ~= 'c' and j.state ~= 'x' then return { 'state', j.state } end
  flows.load({ j.tenant }, 1)
  local t = tenants[j.tenant]
  if t[RULES][MAX_QUEUED] >= 0 and t[QUEUED] + 1 > t[RULES][MAX_QUEUED] then
    return full('tenant', t[RULES][MAX_QUEUED], t[QUEUED], 1, t)
  end
  if lane[QUEUED] + 1 > lane[RULES][MAX_QUEUED] then return full('lane', lane[RULES][MAX_QUEUED], lane[QUEUED], 1) end
  call('ZREM', DEAD, j.id)
  call('DEL', key('errors', j.id), key('events', j.id))
  if jobs.has(j, FLAG.body) then call('PERSIST', key('body', j.id)) end
  jobs.set(j, FLAG.errors, false)
  jobs.set(j, FLAG.faulted, false)
  lane[ACCEPTED] = lane[ACCEPTED] + 1
  j.order, j.attempts, j.stalls, j.deadline, j.at = lane[ACCEPTED], 0, 0, now + GIVE_UP, now
  if args[4] ~= '' then call('PEXPIRE', key('idem', j.tenant .. ':' .. args[4]), jobs.life(j), 'GT') end
  jobs.admit(j)
  -- The output goes, the body stays; of the part of the header that stays, order and deadline are new.
  local first, after = HOT_BYTES + 1, CREATED_AT
  call('SET', JOB .. j.id, jobs.hot(j) .. string.sub(j.raw, first, first + 2)
    .. struct.pack('<dd', j.order, j.cost) .. string.sub(j.raw, after, after + 7)
    .. struct.pack('<d', j.deadline) .. string.sub(j.raw, after + 16, j.spec_end)
    .. string.sub(j.raw, j.spec_end + jobs.out_len(j) + 1))
  commit()
  return { 'ok' }
end
