-- Accepts groups of jobs; of each group all or none.
-- ARGV, from 2, a group: how many jobs; then 6 a job: id; tenant; numbers packed as '>BBHdddd' (class,
--   flags, most attempts, prompt tokens, completion tokens or -1, delay ms, deadline ms or 0);
--   idempotency as '' or '>d' (TTL ms) + 32 bytes of digest + key; tail of the record (its lengths packed
--   as '>BBI4', then tenant, session, spec, body; see parse() in the prelude); body when it gets a key of
--   its own, else ''. After these, for a job that remembers (flag 4), 2 more: TTL ms of the conversation;
--   its profile.
-- Returns, a group: { 'ok', id, … } with the id that answers each job: its own, or that of the job that
--   was accepted before for the same idempotency key; { 'reused', key }; or { 'full', 'tenant' | 'lane',
--   limit, excess, drain per second }.
local groups, names = {}, {}
local i, group, left = 2, nil, 0
while i <= #ARGV do
  if left == 0 then
    group, left, i = {}, tonumber(ARGV[i]), i + 1
    groups[#groups + 1] = group
  end
  left = left - 1
  local d = { id = ARGV[i], tenant = ARGV[i + 1], tail = ARGV[i + 4], body = ARGV[i + 5] }
  d.class, d.flags, d.max_attempts, d.prompt, d.completion, d.delay, d.deadline =
    struct.unpack('>BBHdddd', ARGV[i + 2])
  d.idem = ARGV[i + 3]
  i = i + 6
  if math.floor(d.flags / FLAG.memory) % 2 == 1 then
    d.ttl, d.profile = ARGV[i], ARGV[i + 1]
    i = i + 2
  end
  group[#group + 1] = d
  names[#names + 1] = d.tenant
end
load_tenants(names)

local function full(scope, limit, wanted)
  return { 'full', scope, limit, wanted - limit, string.format('%.17g', lane.drain_per_s) }
end
local lists = {}

local function accept(d, digest_and_id)
  if d.idem ~= '' then
    call('SET', d.idem_key, digest_and_id, 'PX', (struct.unpack('>d', d.idem)))
  end
  lane.accepted = lane.accepted + 1
  local tenant_len, session_len, spec_len = struct.unpack('>BBI4', d.tail)
  local cost = d.prompt + (d.completion >= 0 and d.completion or math.floor(lane.mean + 0.5))
  local j = {
    id = d.id, class = d.class, flags = d.flags, version = 1, attempts = 0,
    max_attempts = d.max_attempts, stalls = 0, epoch = 0, order = lane.accepted,
    cost = math.min(math.max(cost, 1), 1099511627776), created = now, started = 0,
    at = now + d.delay, deadline = d.deadline > 0 and now + d.deadline or 0,
    tenant_len = tenant_len, session_len = session_len, spec_len = spec_len, tenant = d.tenant,
  }
  jobs[j.id] = j
  if session_len > 0 then
    j.session = string.sub(d.tail, 7 + tenant_len, 6 + tenant_len + session_len)
  end
  if d.ttl then
    local talk = d.tenant .. ':' .. j.session
    call('SET', key('profile', talk), d.profile, 'PX', d.ttl)
    call('ZADD', key('talks', d.tenant), now + d.ttl, j.session)
    call('PEXPIRE', key('turns', talk), d.ttl)
  end
  if d.body ~= '' then call('SET', key('body', j.id), d.body) end
  admit(j)
  j.raw = header(j) .. string.sub(d.tail, 7)
  call('SET', key('job', j.id), j.raw)
  local list = lists[d.tenant]
  if not list then
    list = {}
    lists[d.tenant] = list
  end
  list[#list + 1] = j.id
end

local function accept_all(drafts)
  -- Recognise what was accepted before.
  local answers, fresh, counts, total = { 'ok' }, {}, {}, 0
  for n, d in ipairs(drafts) do
    answers[n + 1] = d.id
    local known
    if d.idem ~= '' then
      d.idem_key = key('idem', d.tenant .. ':' .. string.sub(d.idem, 41))
      known = fresh[d.idem_key] or call('GET', d.idem_key)
      local digest = string.sub(d.idem, 9, 40)
      if not known then
        fresh[d.idem_key] = digest .. d.id
      elseif string.sub(known, 1, 32) == digest then
        answers[n + 1] = string.sub(known, 33)
      else
        return { 'reused', string.sub(d.idem, 41) }
      end
    end
    if not known then
      d.fresh = true
      total = total + 1
      counts[d.tenant] = (counts[d.tenant] or 0) + 1
    end
  end

  -- Is there room for all that is new?
  for _, d in ipairs(drafts) do
    local t, count = tenant(d.tenant), counts[d.tenant] or 0
    if count > 0 and t.max_queued >= 0 and t.queued + count > t.max_queued then
      return full('tenant', t.max_queued, t.queued + count)
    end
  end
  if lane.queued + total > lane.max_queued then
    return full('lane', lane.max_queued, lane.queued + total)
  end

  for _, d in ipairs(drafts) do
    if d.fresh then accept(d, fresh[d.idem_key]) end
  end
  return answers
end

local replies = {}
for n, drafts in ipairs(groups) do replies[n] = accept_all(drafts) end
for name, list in pairs(lists) do bulk('RPUSH', key('jobs', name), list, 1) end
commit(nil)
return replies
