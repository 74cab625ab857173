-- Puts an ended job back, as if it had been accepted just now.
-- ARGV: 2: job id; 3: tenant.
-- Returns { 'ok' }; { 'none' } when the tenant has no such job; { 'state', letter } when it cannot be
--   retried; or { 'full', … } as enqueue does.
local j = jobs.get(ARGV[2])
if not j or j.tenant ~= ARGV[3] then return { 'none' } end
if j.state ~= 'f' and j.state ~= 'c' and j.state ~= 'x' then return { 'state', j.state } end
flows.load({ j.tenant })
local t = tenants[j.tenant]
local function full(scope, limit, wanted)
  return { 'full', scope, limit, wanted - limit, string.format('%.17g', lane.drain_per_s) }
end
if t.max_queued >= 0 and t.queued + 1 > t.max_queued then
  return full('tenant', t.max_queued, t.queued + 1)
end
if lane.queued + 1 > lane.max_queued then return full('lane', lane.max_queued, lane.queued + 1) end
call('ZREM', DEAD, j.id)
call('DEL', key('errors', j.id), key('events', j.id))
if jobs.has(j, FLAG.body) then call('PERSIST', key('body', j.id)) end
jobs.set(j, FLAG.errors, false)
lane.accepted = lane.accepted + 1
j.order, j.attempts, j.stalls, j.deadline, j.at = lane.accepted, 0, 0, 0, now
-- The output goes, the body stays; order and deadline are in the part of the header that stays.
local tail = string.sub(j.raw, HEAD_BYTES + 1, j.spec_end) .. string.sub(j.raw, j.spec_end + j.out_len + 1)
local lengths = string.sub(j.raw, HEAD_BYTES - 5, HEAD_BYTES)
j.out_len = 0
jobs.admit(j)
local cold = struct.pack('<dddd', j.order, j.cost, j.created, j.deadline) .. lengths
call('SET', JOB .. j.id, jobs.hot(j) .. cold .. tail)
commit()
return { 'ok' }
