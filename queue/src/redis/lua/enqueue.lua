-- Accepts groups of jobs; of each group all or none.
-- Arguments, from 2, a group: 'p' when all its jobs are plain (no session, delay, deadline, flag, and an
--   idempotency key only if it renews), else 'm'; how many jobs; then
--   5 a plain job: id; tenant; numbers packed as '<BHdd' (class, most attempts, prompt tokens, completion
--   tokens or -1); the record from its deadline on; idempotency as below;
--   6 another job: id; tenant; numbers packed as '<BBHddddBBI4' (class, flags, most attempts, prompt
--   tokens, completion tokens or -1, delay ms, deadline ms or 0, lengths of tenant, session and spec);
--   idempotency as '' or '<Bd' (1 when it renews, TTL ms) + 32 bytes of digest + key; the record behind its header; body when
--   it gets a key of its own, else ''. After these, for a job that remembers (flag 4), 2 more: TTL ms of
--   the conversation; its profile.
-- Returns, a group: { 'all' } when each job is new; { 'ok', id, … } with the id that answers each job: its
--   own, or that of the job that was accepted before for the same idempotency key; { 'reused', key }; or
--   { 'full', 'tenant' | 'lane', limit, excess, drain per second }.

-- What is to be written: the records; the list of each tenant -> the ids that it got.
local records, lists

-- The jobs of a group that begin at `i`, into the group; their tenants into `names`.
local function read_jobs(args, group, i, names)
  for n = 1, group.count do
    local d = {
      id = args[i], tenant = args[i + 1], numbers = args[i + 2], idem = args[i + 3], tail = args[i + 4],
      body = args[i + 5], fresh = false, ttl = false, profile = false,
    }
    i = i + 6
    if bit.band(string.byte(d.numbers, 2), FLAG.memory) ~= 0 then
      d.ttl, d.profile = args[i], args[i + 1]
      i = i + 2
    end
    group[n] = d
    names[#names + 1] = d.tenant
  end
  return i
end

-- The groups, of plain ones with how many jobs each tenant has in it; and the names of all tenants.
local function read_groups(args)
  local groups, names, i = {}, {}, 2
  while i <= #args do
    local counts = {}
    local group = { plain = args[i] == 'p', count = tonumber(args[i + 1]), first = i + 2, counts = counts }
    groups[#groups + 1] = group
    if group.plain then
      i = group.first + 5 * group.count
      for at = group.first + 1, i - 1, 5 do
        local name = args[at]
        local count = counts[name]
        if not count then
          count = 0
          names[#names + 1] = name
        end
        counts[name] = count + 1
      end
    else
      i = read_jobs(args, group, group.first, names)
    end
  end
  return groups, names
end

-- A job of that tenant, for the listing; `ids` are those before it, nil for none. Answers all.
local function list(name, ids, id)
  if ids then
    ids[#ids + 1] = id
    return ids
  end
  ids = { id }
  lists[name] = ids
  return ids
end

-- How much a job is thought to cost.
local function estimate(prompt, completion)
  local cost = prompt + (completion >= 0 and completion or math.floor(lane[MEAN] + 0.5))
  if cost < 1 then return 1 end
  return cost < 1099511627776 and cost or 1099511627776
end

-- Where it stands which job a tenant's idempotency key has made, and writes it there.
local function idem_key(tenant, idem) return key('idem', tenant .. ':' .. string.sub(idem, 42)) end
local function remember(tenant, idem, id)
  call('SET', idem_key(tenant, idem), string.sub(idem, 10, 41) .. id, 'PX', (struct.unpack('<d', idem, 2)))
end

local function accept(d)
  if d.idem ~= '' then remember(d.tenant, d.idem, d.id) end
  lane[ACCEPTED] = lane[ACCEPTED] + 1
  local class, flags, max_attempts, prompt, completion, delay, deadline, tenant_len, session_len, spec_len =
    struct.unpack('<BBHddddBBI4', d.numbers)
  local cost = estimate(prompt, completion)
  local j = {
    id = d.id, class = class, flags = flags, attempts = 0, stalls = 0, epoch = 0, started = 0,
    at = now + delay, state = 'h', order = lane[ACCEPTED],
    deadline = deadline > 0 and now + deadline or 0, tenant = d.tenant, session = false,
  }
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
  list(d.tenant, lists[d.tenant], j.id)
end

-- Jobs that have nothing but a record and a place in their ready set.
local function accept_plain(args, group)
  local first, last, counts = group.first, group.first + 5 * group.count - 1, group.counts
  for name, count in pairs(counts) do
    local t = tenants[name]
    if t[RULES][MAX_QUEUED] >= 0 and t[QUEUED] + count > t[RULES][MAX_QUEUED] then
      return flows.full('tenant', t[RULES][MAX_QUEUED], t[QUEUED] + count)
    end
  end
  if lane[QUEUED] + group.count > lane[RULES][MAX_QUEUED] then
    return flows.full('lane', lane[RULES][MAX_QUEUED], lane[QUEUED] + group.count)
  end
  lane[QUEUED] = lane[QUEUED] + group.count
  for name, count in pairs(counts) do
    local t = flows.change(name)
    t[QUEUED] = t[QUEUED] + count
  end
  local pack, unpack_numbers, format, order, count = struct.pack, struct.unpack, string.format, lane[ACCEPTED], #records
  local now_packed, name, class, attempts, t, ids, set, ready, head = pack('<d', now), nil, nil, nil, nil, nil, nil, nil, nil
  for at = first, last, 5 do
    local id = args[at]
    local its_class, its_attempts, prompt, completion = unpack_numbers('<BHdd', args[at + 2])
    if name ~= args[at + 1] or class ~= its_class or attempts ~= its_attempts then
      name, class, attempts = args[at + 1], its_class, its_attempts
      set = READY_OF[class] .. name
      t, ids, ready = tenants[name], lists[name], readied[set]
      head = NEW[class] .. now_packed .. pack('<BH', VERSION, attempts)
      if t[OFFERED + class] == 0 then flows.touch(name) end
    end
    order = order + 1
    records[count + 1] = JOB .. id
    records[count + 2] = head .. pack('<dd', order, estimate(prompt, completion)) .. now_packed .. args[at + 3]
    count = count + 2
    if args[at + 4] ~= '' then remember(name, args[at + 4], id) end
    ids = list(name, ids, id)
    -- The order as text, which is cheaper than what Redis makes of a number.
    ready = jobs.put_ready(set, ready, format('%d', order), id)
    t[READY + class] = t[READY + class] + 1
  end
  lane[ACCEPTED] = order
  return { 'all' }
end

local function accept_all(drafts)
  -- Recognise what was accepted before.
  local answers, fresh, counts, total = { 'ok' }, {}, {}, 0
  for n, d in ipairs(drafts) do
    answers[n + 1] = d.id
    local accepted
    if d.idem ~= '' then
      local made = idem_key(d.tenant, d.idem)
      accepted = string.byte(d.idem) == 0 and (fresh[made] or call('GET', made))
      local digest = string.sub(d.idem, 10, 41)
      if not accepted then
        fresh[made] = digest .. d.id
      elseif string.sub(accepted, 1, 32) == digest then
        answers[n + 1] = string.sub(accepted, 33)
      else
        return { 'reused', string.sub(d.idem, 42) }
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
    if count > 0 and t[RULES][MAX_QUEUED] >= 0 and t[QUEUED] + count > t[RULES][MAX_QUEUED] then
      return flows.full('tenant', t[RULES][MAX_QUEUED], t[QUEUED] + count)
    end
  end
  if lane[QUEUED] + total > lane[RULES][MAX_QUEUED] then
    return flows.full('lane', lane[RULES][MAX_QUEUED], lane[QUEUED] + total)
  end

  for _, d in ipairs(drafts) do
    if d.fresh then accept(d) end
  end
  return answers
end

functions.enqueue = function(args)
  records, lists = {}, {}
  local groups, names = read_groups(args)
  flows.load(names, #names)
  local replies = {}
  for n, group in ipairs(groups) do
    replies[n] = group.plain and accept_plain(args, group) or accept_all(group)
  end
  bulk('MSET', nil, records, 2)
  for name, ids in pairs(lists) do bulk('RPUSH', LISTS .. name, ids, 1) end
  commit('new')
  return replies
end
