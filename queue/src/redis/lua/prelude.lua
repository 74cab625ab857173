-- What every script begins with. The loader writes the policy above it:
--   RETENTION   how long an ended job is kept, in milliseconds
--   MAX_STALLS  how many workers a job may lose
--   MAX_DEAD    how many failed jobs the list of the dead holds
--   AT_ONCE     how many members of a set one transition promotes
--
-- ARGV[1] is '', or the time in milliseconds where a test sets the clock.
-- KEYS[1] is the prefix of the shard, `cw:{lane:shard}:`. Every key is made from it, so that all
-- of them share one hash slot; key() below is the only place that does.
--
-- A script changes jobs, tenants and the lane in tables, and writes each once at its end.
local P = KEYS[1]
local call = redis.call
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local INTERVAL = 60000

local function key(kind, name) return P .. kind .. ':' .. name end
local ACTIVE, PARKED, DUE, DEADLINES = P .. 'active', P .. 'parked', P .. 'due', P .. 'deadlines'
local LEASES, CANCELS, DEAD, TENANTS = P .. 'leases', P .. 'cancels', P .. 'dead', P .. 'tenants'

-- Runs a command with many arguments, in pieces that fit Lua's stack.
local function bulk(command, name, args, width)
  local step = 1000 * width
  for first = 1, #args, step do
    call(command, name, unpack(args, first, math.min(first + step - 1, #args)))
  end
end

-- The lane: one packed string. -1 stands for "no bound".
local LANE = '>ddddddddddddddddd'
local lane = {}
lane.vtime, lane.accepted, lane.running, lane.queued, lane.mean, lane.weight, lane.paused,
  lane.not_before, lane.requests_tat, lane.tokens_tat, lane.max_running, lane.max_queued, lane.rpm,
  lane.tpm, lane.drain_started, lane.drain_ended, lane.drain_per_s =
  0, 0, 0, 0, 256, 0, 0, 0, 0, 0, -1, 1000000, -1, -1, 0, 0, 0
do
  local packed = call('GET', P .. 'lane')
  if packed then
    lane.vtime, lane.accepted, lane.running, lane.queued, lane.mean, lane.weight, lane.paused,
      lane.not_before, lane.requests_tat, lane.tokens_tat, lane.max_running, lane.max_queued,
      lane.rpm, lane.tpm, lane.drain_started, lane.drain_ended, lane.drain_per_s =
      struct.unpack(LANE, packed)
  end
end

-- Tenants: fields of one hash, each a packed string. Classes are 0, 1, 2; `offered` is a bit for
-- each class that stands in `active`; `parked` is the score in `parked`, -1 when not there.
local TENANT = '>dddddddddddddddddddd'
local tenants, touched, changed = {}, {}, {}

local function unpack_tenant(name, packed)
  local t = { name = name, ready = {}, tag = {} }
  if packed then
    t.weight, t.max_running, t.max_queued, t.rpm, t.tpm, t.configured, t.paused, t.running, t.queued,
      t.scheduled, t.requests_tat, t.tokens_tat, t.parked, t.offered, t.ready[0], t.ready[1],
      t.ready[2], t.tag[0], t.tag[1], t.tag[2] = struct.unpack(TENANT, packed)
  else
    t.weight, t.max_running, t.max_queued, t.rpm, t.tpm, t.configured, t.paused, t.running, t.queued,
      t.scheduled, t.requests_tat, t.tokens_tat, t.parked, t.offered, t.ready[0], t.ready[1],
      t.ready[2], t.tag[0], t.tag[1], t.tag[2] =
      1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0
  end
  tenants[name] = t
  return t
end

-- Reads the tenants of a list of names at once.
local function load_tenants(names)
  local missing, seen = {}, {}
  for _, name in ipairs(names) do
    if not tenants[name] and not seen[name] then
      seen[name] = true
      missing[#missing + 1] = name
    end
  end
  for first = 1, #missing, 1000 do
    local last = math.min(first + 999, #missing)
    local packed = call('HMGET', TENANTS, unpack(missing, first, last))
    for i = first, last do unpack_tenant(missing[i], packed[i - first + 1]) end
  end
end

local function tenant(name)
  return tenants[name] or unpack_tenant(name, call('HGET', TENANTS, name))
end

-- The tenant, to be changed: its flows are placed anew by the next place_touched().
local function touch(name)
  local t = tenant(name)
  if not t.touched then
    t.touched = true
    touched[#touched + 1] = t
    if not t.changed then
      t.changed = true
      changed[#changed + 1] = t
    end
  end
  return t
end

-- When two rates let the next attempt begin; see Meters::open_at in embedded/flows.rs.
local function rates_open_at(o)
  local at = 0
  if o.rpm > 0 then at = math.max(at, o.requests_tat - (INTERVAL - INTERVAL / o.rpm)) end
  if o.tpm > 0 then at = math.max(at, o.tokens_tat - INTERVAL + 1) end
  return at
end

local function charge(o, cost)
  if o.rpm > 0 then o.requests_tat = math.max(o.requests_tat, now) + INTERVAL / o.rpm end
  if o.tpm > 0 then o.tokens_tat = math.max(o.tokens_tat, now) + cost * INTERVAL / o.tpm end
end

local function correct(o, difference)
  if o.tpm > 0 then o.tokens_tat = o.tokens_tat + difference * INTERVAL / o.tpm end
end

-- When an owner (tenant or lane) may begin another attempt; nil when only a transition can tell.
local function open_at(o)
  if o.paused == 1 or (o.max_running >= 0 and o.running >= o.max_running) then return nil end
  return math.max(rates_open_at(o), o.not_before or 0)
end

local function is_open(o)
  local at = open_at(o)
  return at ~= nil and at <= now
end

local CLASS_WEIGHT = { [0] = 16, 4, 1 }
local BIT = { [0] = 1, 2, 4 }
local function weight(t, class) return CLASS_WEIGHT[class] * t.weight end
local function offers(t, class) return math.floor(t.offered / BIT[class]) % 2 == 1 end

-- When there may be work without a wake-up, as far as this script has seen.
local soonest, scheduled = math.huge, false
local function expect(at) soonest = math.min(soonest, at) end

-- Decides for every touched tenant which of its flows are offered: the only place that does.
-- `active` then holds exactly the servable flows, `parked` the tenants that a rate keeps closed.
local function place_touched()
  if #touched == 0 then return end
  local add, remove, park, unpark = {}, {}, {}, {}
  for _, t in ipairs(touched) do
    t.touched = false
    local at = open_at(t)
    local open = at ~= nil and at <= now
    local offered, some_ready = 0, false
    for class = 0, 2 do
      local wanted, was = open and t.ready[class] > 0, offers(t, class)
      some_ready = some_ready or t.ready[class] > 0
      local w = weight(t, class)
      if was then
        lane.weight = lane.weight - w
      elseif wanted then
        -- A flow that was away gains nothing by it: it returns no earlier than now.
        t.tag[class] = math.max(t.tag[class], lane.vtime)
      end
      if wanted then
        offered = offered + BIT[class]
        lane.weight = lane.weight + w
        add[#add + 1] = t.tag[class]
        add[#add + 1] = class .. ':' .. t.name
      elseif was then
        remove[#remove + 1] = class .. ':' .. t.name
      end
    end
    t.offered = offered
    local parked = (at ~= nil and not open and some_ready) and at or -1
    if parked >= 0 then
      expect(parked)
      if parked ~= t.parked then
        park[#park + 1] = parked
        park[#park + 1] = t.name
      end
    elseif t.parked >= 0 then
      unpark[#unpark + 1] = t.name
    end
    t.parked = parked
  end
  touched = {}
  bulk('ZADD', ACTIVE, add, 2)
  bulk('ZREM', ACTIVE, remove, 1)
  bulk('ZADD', PARKED, park, 2)
  bulk('ZREM', PARKED, unpark, 1)
end

-- Jobs: a packed header, then tenant, session, spec and body as they came.
--   state: q ready, h held by its session, w due, r running, s f c x ended
--   flags: 1 cancelling, 2 keeps events, 4 remembers, 8 body in a key of its own, 16 has errors,
--          32 is between two attempts
--   at:    held, due: when it may run; ended: when it ended
local HEAD, HEAD_BYTES = '>c1BBBHHHI4ddddddBBI4', 68
local FLAG = { cancelling = 1, events = 2, memory = 4, body = 8, errors = 16, retry = 32 }
local jobs = {}

local function parse(id, raw)
  if not raw then return nil end
  local j = { id = id, raw = raw }
  j.state, j.flags, j.class, j.version, j.attempts, j.max_attempts, j.stalls, j.epoch, j.order,
    j.cost, j.created, j.started, j.at, j.deadline, j.tenant_len, j.session_len, j.spec_len =
    struct.unpack(HEAD, raw)
  j.tenant = string.sub(raw, HEAD_BYTES + 1, HEAD_BYTES + j.tenant_len)
  if j.session_len > 0 then
    local first = HEAD_BYTES + j.tenant_len
    j.session = string.sub(raw, first + 1, first + j.session_len)
  end
  jobs[id] = j
  return j
end

local function job(id) return jobs[id] or parse(id, call('GET', key('job', id))) end

local function header(j)
  return struct.pack(HEAD, j.state, j.flags, j.class, j.version, j.attempts, j.max_attempts, j.stalls,
    j.epoch, j.order, j.cost, j.created, j.started, j.at, j.deadline, j.tenant_len, j.session_len,
    j.spec_len)
end

local function save(j) call('SETRANGE', key('job', j.id), 0, header(j)) end

local function has(j, flag) return math.floor(j.flags / flag) % 2 == 1 end
local function set(j, flag, on)
  if has(j, flag) ~= on then j.flags = j.flags + (on and flag or -flag) end
end

local function flow(j) return j.class .. ':' .. j.tenant end
local function member(j) return j.id .. '|' .. string.format('%d', j.epoch) .. '|' .. flow(j) end

-- News for the processes that listen, published once at the end: see redis/news.rs.
local news = {}
local function tell_ended(j) news[#news + 1] = 'E' .. j.id .. j.state end
local function tell_cancel(j) news[#news + 1] = 'C' .. j.id end

-- Appends to a job's event log, if it is kept, and tells it.
local function append_event(id, kind, data)
  local entry = call('XADD', key('events', id), '1-*', 'k', kind, 'd', data)
  local seq = tonumber(string.sub(entry, 3))
  news[#news + 1] = struct.pack('>c1c26c1I4I4', 'V', id, kind, seq, #data) .. data
end
local function log(j, kind, data)
  if has(j, FLAG.events) then append_event(j.id, kind, data) end
end

-- Jobs that became ready, written together: flow -> { score, id, ... }.
local readied = {}
local function flush_ready()
  for name, args in pairs(readied) do bulk('ZADD', key('ready', name), args, 2) end
  readied = {}
end

local function make_ready(j)
  j.state = 'q'
  local name = flow(j)
  local args = readied[name]
  if not args then
    args = {}
    readied[name] = args
  end
  args[#args + 1] = j.order
  args[#args + 1] = j.id
  local t = touch(j.tenant)
  t.ready[j.class] = t.ready[j.class] + 1
end

local function schedule(j, at, retry)
  j.state, j.at = 'w', at
  expect(at)
  scheduled = true
  set(j, FLAG.retry, retry)
  call('ZADD', DUE, at, j.id)
  local t = touch(j.tenant)
  t.scheduled = t.scheduled + 1
end

-- Moves a held job on: into `due` when its time has not come, else into its ready set.
local function dispatch(j)
  if j.at > now then schedule(j, j.at, false) else make_ready(j) end
end

local function count_waiting(j, by)
  local t = touch(j.tenant)
  t.queued = t.queued + by
  lane.queued = lane.queued + by
end

local function session_key(j) return key('session', j.tenant .. ':' .. j.session) end

-- Lets a job that is in no place wait: for its session, its time, or its turn. The caller saves it.
local function admit(j)
  count_waiting(j, 1)
  if j.deadline > 0 then call('ZADD', DEADLINES, j.deadline, j.id) end
  log(j, 'Q', 'null')
  j.state = 'h'
  if not j.session or call('RPUSH', session_key(j), j.id) == 1 then dispatch(j) end
end

-- Takes a waiting job out of the set that its state names.
local function withdraw(j)
  flush_ready()
  local t = touch(j.tenant)
  if j.state == 'q' then
    call('ZREM', key('ready', flow(j)), j.id)
    t.ready[j.class] = t.ready[j.class] - 1
  elseif j.state == 'w' then
    call('ZREM', DUE, j.id)
    t.scheduled = t.scheduled - 1
  end
  count_waiting(j, -1)
end

-- Ends an attempt: frees the slot and settles what it really cost. Needs nothing of the job, so
-- that a slot comes free whatever became of the job.
local function release(tenant_name, class, difference)
  lane.running = math.max(lane.running - 1, 0)
  correct(lane, difference)
  local t = touch(tenant_name)
  t.running = math.max(t.running - 1, 0)
  correct(t, difference)
  t.tag[class] = t.tag[class] + difference / weight(t, class)
end

local function count_ended()
  local elapsed = now - lane.drain_started
  if elapsed >= 10000 then
    local measured = lane.drain_ended * 1000 / elapsed
    local fresh = lane.drain_per_s == 0 or elapsed >= 60000
    lane.drain_per_s = fresh and measured or (lane.drain_per_s + measured) / 2
    lane.drain_started, lane.drain_ended = now, 0
  end
  lane.drain_ended = lane.drain_ended + 1
end

-- Lets the session of an ended job go on with its next one, if the ended one stood first.
local function leave_session(j)
  local line = session_key(j)
  if call('LINDEX', line, 0) ~= j.id then
    call('LREM', line, 1, j.id)
    return
  end
  call('LPOP', line)
  while true do
    local id = call('LINDEX', line, 0)
    local following = id and job(id)
    if following then
      dispatch(following)
      return save(following)
    end
    if not id then return end
    call('LPOP', line)
  end
end

-- Ends a job that is in no set any more, and hands its session on. `out` is its output as JSON, ''
-- for none.
local function finish(j, state, out)
  local body = key('body', j.id)
  if has(j, FLAG.cancelling) then call('SREM', CANCELS, j.id) end
  set(j, FLAG.cancelling, false)
  j.state, j.at = state, now
  if j.deadline > 0 then call('ZREM', DEADLINES, j.id) end
  log(j, state, 'null')
  local last = -1
  if state == 's' then
    last = HEAD_BYTES + j.tenant_len + j.session_len + j.spec_len
    if has(j, FLAG.body) then call('DEL', body) end
  elseif has(j, FLAG.body) then
    call('PEXPIRE', body, RETENTION)
  end
  call('SET', key('job', j.id), header(j) .. string.sub(j.raw, HEAD_BYTES + 1, last), 'PX', RETENTION)
  if out ~= '' then call('SET', key('out', j.id), out, 'PX', RETENTION) end
  if has(j, FLAG.errors) then call('PEXPIRE', key('errors', j.id), RETENTION) end
  if has(j, FLAG.events) then call('PEXPIRE', key('events', j.id), RETENTION) end
  tell_ended(j)
  count_ended()
  if state == 'f' then
    call('ZADD', DEAD, now, j.id)
    call('ZREMRANGEBYRANK', DEAD, 0, -MAX_DEAD - 1)
  end
  if j.session then leave_session(j) end
end

-- Lets a job wait again that held a lease, with its old order, unless its deadline has passed.
local function put_back(j, at, kind, data)
  if j.deadline > 0 and j.deadline <= now then return finish(j, 'x', '') end
  log(j, kind, data)
  count_waiting(j, 1)
  if at > now then schedule(j, at, true) else make_ready(j) end
  save(j)
end

local function remember_error(j, json)
  local name = key('errors', j.id)
  set(j, FLAG.errors, true)
  if call('RPUSH', name, json) > 20 then call('LPOP', name) end
end

-- The members of a set whose time has come; tells soonest when the first of the others comes.
local function come(set)
  local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if not first[2] then return {} end
  local at = tonumber(first[2])
  if at > now then
    expect(at)
    return {}
  end
  local found = call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, AT_ONCE)
  local following = call('ZRANGE', set, #found, #found, 'WITHSCORES')
  if following[2] then expect(tonumber(following[2])) end
  return found
end

-- Lets in what has come due: deadlines first, then jobs, then tenants.
local function promote()
  flush_ready()
  place_touched()
  for _, id in ipairs(come(DEADLINES)) do
    call('ZREM', DEADLINES, id)
    local j = job(id)
    if j and (j.state == 'q' or j.state == 'h' or j.state == 'w') then
      withdraw(j)
      finish(j, 'x', '')
    end
  end
  flush_ready()
  for _, id in ipairs(come(DUE)) do
    call('ZREM', DUE, id)
    local j = job(id)
    if j then
      local t = touch(j.tenant)
      t.scheduled = t.scheduled - 1
      make_ready(j)
      save(j)
    end
  end
  for _, name in ipairs(come(PARKED)) do touch(name) end
end

-- Writes what changed, tells the news, and wakes a worker when servable work is left over, or when
-- something was scheduled: whoever is idle has to learn that it must look earlier. `servable`: nil to
-- find out.
local function commit(servable)
  flush_ready()
  place_touched()
  local fields = {}
  for _, t in ipairs(changed) do
    fields[#fields + 1] = t.name
    fields[#fields + 1] = struct.pack(TENANT, t.weight, t.max_running, t.max_queued, t.rpm, t.tpm,
      t.configured, t.paused, t.running, t.queued, t.scheduled, t.requests_tat, t.tokens_tat,
      t.parked, t.offered, t.ready[0], t.ready[1], t.ready[2], t.tag[0], t.tag[1], t.tag[2])
  end
  bulk('HSET', TENANTS, fields, 2)
  call('SET', P .. 'lane', struct.pack(LANE, lane.vtime, lane.accepted, lane.running, lane.queued,
    lane.mean, lane.weight, lane.paused, lane.not_before, lane.requests_tat, lane.tokens_tat,
    lane.max_running, lane.max_queued, lane.rpm, lane.tpm, lane.drain_started, lane.drain_ended,
    lane.drain_per_s))
  if #news > 0 then call('PUBLISH', P .. 'news', table.concat(news)) end
  if servable == nil then servable = call('EXISTS', ACTIVE) == 1 end
  if scheduled or (servable and is_open(lane)) then call('ZADD', P .. 'wake', 0, 'a', 0, 'b') end
end
