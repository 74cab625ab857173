-- Puts an ended job back, as if it had been accepted just now.
-- ARGV: 2: job id; 3: tenant.
-- Returns { 'ok' }; { 'none' } when the tenant has no such job; { 'state', letter } when it cannot be
--   retried; or { 'full', … } as enqueue does.
local j = job(ARGV[2])
if not j or j.tenant ~= ARGV[3] then return { 'none' } end
if j.state ~= 'f' and j.state ~= 'c' and j.state ~= 'x' then return { 'state', j.state } end
local t = tenant(j.tenant)
local function full(scope, limit, wanted)
  return { 'full', scope, limit, wanted - limit, string.format('%.17g', lane.drain_per_s) }
end
if t.max_queued >= 0 and t.queued + 1 > t.max_queued then
  return full('tenant', t.max_queued, t.queued + 1)
end
if lane.queued + 1 > lane.max_queued then return full('lane', lane.max_queued, lane.queued + 1) end
call('ZREM', DEAD, j.id)
call('DEL', key('out', j.id), key('errors', j.id), key('events', j.id))
call('PERSIST', key('job', j.id))
if has(j, FLAG.body) then call('PERSIST', key('body', j.id)) end
set(j, FLAG.errors, false)
lane.accepted = lane.accepted + 1
j.order, j.attempts, j.stalls, j.deadline, j.at = lane.accepted, 0, 0, 0, now
admit(j)
save(j)
commit(nil)
return { 'ok' }
