-- Accepts groups of jobs; of each group all or none.
-- Arguments, from 2, a group: 'p' when all its jobs are plain (no session, delay, deadline, flag, idempotency
--   key), else 'm'; how many jobs; then
--   p: runs of jobs: tenant; numbers packed as '<BH' (class, most attempts) and then, as many as there
--   are jobs in the run, '<dd' (prompt tokens, completion tokens or -1); then 2 a job: id; the record from
--   its deadline on;
--   m: 6 a job: id; tenant; numbers packed as '<BBHddddBBI4' (class, flags, most attempts, prompt
--   tokens, completion tokens or -1, delay ms, deadline ms or 0, lengths of tenant, session and spec);
--   idempotency as '' or '<Bd' (1 when it spans its job, TTL ms) + 32 bytes of digest + key; the record
--   behind its header; body when it gets a key of its own, else ''. After these, for a job that remembers (flag 4), 2 more: TTL ms of
--   the conversation; its profile.
-- Returns, a group: nil when each job is new; { 'ok', id, … } with the id that answers each job: its
--   own, or that of the job that was accepted before for the same idempotency key; { 'reused', key }; or
--   { 'full', 'tenant' | 'lane', limit, waiting, new, in how many ms there should be room or -1 }.

-- How long the numbers of a run of plain jobs are, and those of each job behind them.
local RUN_BYTES <const>, JOB_BYTES <const> = 3, 16
-- How many arguments a plain job has.
local WIDTH <const> = 2
-- The records to be written.
local records
-- The last two digits of a number: behind the text of its hundreds they make a text that Redis reads as
-- that number (5 is '005'), for less than it costs to format each, or to let Redis do it.
local DIGITS = {}
for n = 0, 99 do DIGITS[n] = format('%02d', n) end
-- The tenants of the jobs, of a run of plain jobs once; and how many these are.
local names, named = {}, nil
-- What the records of a run of plain jobs begin with, and what their numbers begin with; the time as
-- records hold it.
local head, common, now_packed

-- Reads a group that is not plain into drafts, and the names of its tenants; answers where the next begins.
local function read_drafts(args, drafts, i, count)
  for n = 1, count do
    local d = {
      id = args[i], tenant = args[i + 1], numbers = args[i + 2], idem = args[i + 3], tail = args[i + 4],
      body = args[i + 5], fresh = false, ttl = false, profile = false,
    }
    i = i + 6
    if bit.band(byte(d.numbers, 2), FLAG.memory) ~= 0 then
      d.ttl, d.profile = args[i], args[i + 1]
      i = i + 2
    end
    drafts[n], names[named + n] = d, d.tenant
  end
  named = named + count
  return i
end

-- The groups, which take turns in three places: whether their jobs are plain; how many jobs; where they begin,
-- or their drafts.
local function read_groups(args)
  local groups, count, i, last = {}, 0, 2, #args
  named = 0
  while i <= last do
    local plain, size, first = args[i] == 'p', tonumber(args[i + 1]), i + 2
    if plain then
      local left = size
      i = first
      while left > 0 do
        local run = (#args[i + 1] - RUN_BYTES) / JOB_BYTES
        named = named + 1
        names[named] = args[i]
        i, left = i + 2 + run * WIDTH, left - run
      end
    else
      local drafts = {}
      i = read_drafts(args, drafts, first, size)
      first = drafts
    end
    groups[count + 1], groups[count + 2], groups[count + 3] = plain, size, first
    count = count + 3
  end
  return groups, count
end

-- Counts so many jobs of that tenant: counts[name], and the names in their order.
local function count_jobs(counts, name, more)
  if not counts[name] then counts[#counts + 1] = name end
  counts[name] = (counts[name] or 0) + more
end

-- What is answered when there is no room for the jobs that were counted; nil when there is. The first
-- tenant without room is named.
local function refusal(counts, total)
  for _, name in ipairs(counts) do
    local t, count = tenants[name], counts[name]
    if t[RULES][MAX_QUEUED] >= 0 and t[QUEUED] + count > t[RULES][MAX_QUEUED] then
      return full('tenant', t[RULES][MAX_QUEUED], t[QUEUED], count, t)
    end
  end
  -- Bounds may have been lowered below what waits: what brings nothing new may come all the same.
  if total > 0 and lane[QUEUED] + total > lane[RULES][MAX_QUEUED] then
    return full('lane', lane[RULES][MAX_QUEUED], lane[QUEUED], total)
  end
end

-- How much a job is thought to cost.
local function estimate(prompt, completion)
  local mean, cost = lane[MEAN], nil
  if completion < 0 then
    cost = prompt + math.floor(mean + 0.5)
  elseif completion > mean * MOST_COMPLETION_OF_MEAN then
    cost = prompt + math.floor(mean * MOST_COMPLETION_OF_MEAN + 0.5)
  else
    cost = prompt + completion
  end
  if cost < 1 then return 1 end
  return cost < MOST_TOKENS and cost or MOST_TOKENS
end

-- Where it stands which job a tenant's idempotency key has made.
local function idem_key(tenant, idem) return key('idem', tenant .. ':' .. string.sub(idem, 42)) end

-- Writes there that it has made this job; for its TTL and, where it spans the job, until that is forgotten.
local function remember(d, j)
  local spans, ttl = struct.unpack('<Bd', d.idem)
  local life = jobs.life(j)
  if spans == 1 and life > ttl then ttl = life end
  call('SET', idem_key(d.tenant, d.idem), string.sub(d.idem, 10, 41) .. d.id, 'PX', ttl)
end

-- When a job was named: its id begins with the time, see id.rs.
local CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz'
local function named_at(id)
  local at = 0
  for n = 1, 10 do at = at * 32 + string.find(CROCKFORD, string.sub(id, n, n), 1, true) - 1 end
  return at
end

-- What is written there, unless the TTL is over and the job forgotten.
local function known_by(made, idem)
  local entry = call('GET', made)
  if not entry then return nil end
  local id = string.sub(entry, 33)
  local ttl = struct.unpack('<d', idem, 2)
  if named_at(id) + ttl > now or call('EXISTS', JOB .. id) == 1 then return entry end
end

local function accept(d)
  lane[ACCEPTED] = lane[ACCEPTED] + 1
  local class, flags, max_attempts, prompt, completion, delay, deadline, tenant_len, session_len, spec_len =
    struct.unpack('<BBHddddBBI4', d.numbers)
  local cost = estimate(prompt, completion)
  local j = {
    id = d.id, class = class, flags = flags, attempts = 0, stalls = 0, epoch = 0, started = 0,
    at = now + delay, state = 'h', order = lane[ACCEPTED],
    deadline = deadline > 0 and now + deadline or delay > 0 and now + delay + GIVE_UP or 0, tenant = d.tenant, session = false,
  }
  if d.idem ~= '' then remember(d, j) end
  if session_len > 0 then j.session = string.sub(d.tail, tenant_len + 1, tenant_len + session_len) end
  if d.ttl then jobs.renew_talk(d.tenant, j.session, d.profile, tonumber(d.ttl)) end
  if d.body ~= '' then call('SET', key('body', j.id), d.body) end
  jobs.admit(j)
  local count, t = #records, tenants[d.tenant]
  t[LISTED] = t[LISTED] + 1
  t[IDS][t[LISTED]] = j.id
  records[count + 1] = JOB .. j.id
  records[count + 2] = jobs.hot(j) .. struct.pack(COLD, VERSION, max_attempts, j.order, cost, now,
    j.deadline, tenant_len, session_len, spec_len) .. d.tail
end

-- Jobs that have nothing but a record and a place in their ready set.
local function accept_plain(args, first, size)
  local left, at, counts = some_ruled and size or 0, first, {}
  while left > 0 do
    local run = (#args[at + 1] - RUN_BYTES) / JOB_BYTES
    count_jobs(counts, args[at], run)
    at, left = at + 2 + run * WIDTH, left - run
  end
  local refused = refusal(counts, size)
  if refused then return refused end
  local order, count, last, hundreds = lane[ACCEPTED], #records, lane[ACCEPTED] + size, nil
  at = first
  while order < last do
    local name, numbers, before = args[at], args[at + 1], order
    local class = byte(numbers)
    if sub(numbers, 1, RUN_BYTES) ~= common then
      common = sub(numbers, 1, RUN_BYTES)
      head = NEW[class] .. now_packed .. pack('<B', VERSION) .. sub(common, 2)
    end
    local t = tenants[name]
    flows.change(t)
    if t[OFFERED + class] == 0 then flows.touch(t) end
    local arrivals_there, arrived_there = jobs.arrivals_of(t, class)
    local ids, listed = t[IDS], t[LISTED] - order
    at = at + 2
    for place = RUN_BYTES + 1, #numbers, JOB_BYTES do
      local id, prompt, completion = args[at], unpack_numbers('<dd', numbers, place)
      order = order + 1
      records[count + 1] = JOB .. id
      records[count + 2] = head .. pack('<dd', order, estimate(prompt, completion)) .. now_packed .. args[at + 1]
      count = count + 2
      ids[listed + order] = id
      local last_digits = order % 100
      if last_digits == 0 or not hundreds then hundreds = format('%d', (order - last_digits) / 100) end
      arrivals_there[arrived_there + 1], arrivals_there[arrived_there + 2] = hundreds .. DIGITS[last_digits], id
      arrived_there, at = arrived_there + 2, at + WIDTH
    end
    local accepted = order - before
    t[QUEUED], t[READY + class] = t[QUEUED] + accepted, t[READY + class] + accepted
    t[LISTED], t[ARRIVED + class] = t[LISTED] + accepted, arrived_there
  end
  lane[QUEUED], lane[ACCEPTED] = lane[QUEUED] + size, order
  return false
end

local function accept_all(drafts)
  -- Recognise what was accepted before.
  local answers, fresh, counts, total = { 'ok' }, {}, {}, 0
  for n, d in ipairs(drafts) do
    answers[n + 1] = d.id
    local accepted
    if d.idem ~= '' then
      local made = idem_key(d.tenant, d.idem)
      accepted = fresh[made] or known_by(made, d.idem)
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
      count_jobs(counts, d.tenant, 1)
    end
  end

  local refused = refusal(counts, total)
  if refused then return refused end
  for _, d in ipairs(drafts) do
    if d.fresh then accept(d) end
  end
  return answers
end

functions.enqueue = function(args)
  records, now_packed, common = {}, pack('<d', now), nil
  local groups, count = read_groups(args)
  flows.load(names, named)
  local replies = {}
  for n = 1, count, 3 do
    local plain, size, jobs_of_it, answer = groups[n], groups[n + 1], groups[n + 2], nil
    if plain then
      answer = accept_plain(args, jobs_of_it, size)
    else
      answer = accept_all(jobs_of_it)
    end
    replies[#replies + 1] = answer
  end
  bulk('MSET', nil, records, 2)
  for n = 1, changes do
    local t = changed[n]
    local list, listed = LISTS .. t[NAME], t[LISTED]
    if listed == 1 then call('RPUSH', list, t[IDS][1]) else bulk('RPUSH', list, t[IDS], 1, listed) end
    t[LISTED] = 0
  end
  commit('new')
  return replies
end
