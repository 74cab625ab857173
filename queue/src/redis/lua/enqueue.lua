-- Accepts groups of jobs; of each group all or none.
-- ARGV, from 2, a group: how many jobs; then 6 a job: id; tenant; numbers packed as '<BBHddddBBI4'
--   (class, flags, most attempts, prompt tokens, completion tokens or -1, delay ms, deadline ms or 0,
--   lengths of tenant, session and spec); idempotency as '' or '<d' (TTL ms) + 32 bytes of digest + key;
--   the record behind its header; body when it gets a key of its own, else ''. After these, for a job that
--   remembers (flag 4), 2 more: TTL ms of the conversation; its profile.
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
  local d = {
    id = ARGV[i], tenant = ARGV[i + 1], numbers = ARGV[i + 2], idem = ARGV[i + 3], tail = ARGV[i + 4],
    body = ARGV[i + 5], idem_key = false, fresh = false, ttl = false, profile = false,
  }
  i = i + 6
  if bit.band(string.byte(d.numbers, 2), FLAG.memory) ~= 0 then
    d.ttl, d.profile = ARGV[i], ARGV[i + 1]
    i = i + 2
  end
  group[#group + 1] = d
  names[#names + 1] = d.tenant
end
flows.load(names)

local function full(scope, limit, wanted)
  return { 'full', scope, limit, wanted - limit, string.format('%.17g', lane.drain_per_s) }
end
local records, lists = {}, {}

local function accept(d, digest_and_id)
  if d.idem_key then
    call('SET', d.idem_key, digest_and_id, 'PX', (struct.unpack('<d', d.idem)))
  end
  lane.accepted = lane.accepted + 1
  local class, flags, max_attempts, prompt, completion, delay, deadline, tenant_len, session_len, spec_len =
    struct.unpack('<BBHddddBBI4', d.numbers)
  local cost = prompt + (completion >= 0 and completion or math.floor(lane.mean + 0.5))
  local j = {
    id = d.id, class = class, flags = flags, attempts = 0, stalls = 0, epoch = 0, started = 0,
    at = now + delay, state = 'h', order = lane.accepted,
    deadline = deadline > 0 and now + deadline or 0, tenant = d.tenant, session = false,
  }
  cost = math.min(math.max(cost, 1), 1099511627776)
  if session_len > 0 then j.session = string.sub(d.tail, tenant_len + 1, tenant_len + session_len) end
  if d.ttl then
    local talk, talks = d.tenant .. ':' .. j.session, key('talks', d.tenant)
    if call('PEXPIRE', key('turns', talk), d.ttl) == 1 then
      local expires = call('ZSCORE', talks, j.session)
      if expires and tonumber(expires) <= now then call('DEL', key('turns', talk)) end
    end
    call('SET', key('profile', talk), d.profile, 'PX', d.ttl)
    call('ZADD', talks, now + d.ttl, j.session)
  end
  if d.body ~= '' then call('SET', key('body', j.id), d.body) end
  jobs.admit(j)
  records[#records + 1] = JOB .. j.id
  records[#records + 1] = jobs.hot(j) .. struct.pack(COLD, VERSION, max_attempts, j.order, cost, now,
    j.deadline, tenant_len, session_len, spec_len) .. d.tail
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
    local accepted
    if d.idem ~= '' then
      d.idem_key = key('idem', d.tenant .. ':' .. string.sub(d.idem, 41))
      accepted = fresh[d.idem_key] or call('GET', d.idem_key)
      local digest = string.sub(d.idem, 9, 40)
      if not accepted then
        fresh[d.idem_key] = digest .. d.id
      elseif string.sub(accepted, 1, 32) == digest then
        answers[n + 1] = string.sub(accepted, 33)
      else
        return { 'reused', string.sub(d.idem, 41) }
      end
    end
    if not accepted then
      d.fresh = true
      total = total + 1
      counts[d.tenant] = (counts[d.tenant] or 0) + 1
    end
  end

  -- Is there room for all that is new?
  for _, d in ipairs(drafts) do
    local t, count = tenants[d.tenant], counts[d.tenant] or 0
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
bulk('MSET', nil, records, 2)
for name, list in pairs(lists) do bulk('RPUSH', key('jobs', name), list, 1) end
commit('new')
return replies
