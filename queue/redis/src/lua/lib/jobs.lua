-- Jobs: their records, and the places where they wait.
--
-- A record is a packed header, first what changes (HOT), then what stays (COLD); then tenant,
-- session and spec; then the output, once there is one, and the body, as long as it is needed.
--   state: q ready, h held by its session, w due, r running, s f c x ended
--   flags: 1 cancelling, 2 keeps events, 4 remembers, 8 body in a key of its own, 16 has errors,
--          32 is between two attempts, 64 has a webhook, 128 met a failure that was charged to the lane
--   at:    held, due: when it may run; ended: when it ended
local HOT, HOT_BYTES, COLD, HEAD_BYTES = '<c1BBHHI4I4dd', 31, '<BHddddBBI4', 72
local HEAD = HOT .. string.sub(COLD, 2)
-- The offsets of the start of the latest attempt, of the cost, and of the time of acceptance.
local STARTED_AT <const>, COST_AT <const>, CREATED_AT <const> = 16, 43, 51
-- A member of `leases` is the id of the job (ID_BYTES), the epoch in hexadecimal, and the flow: the digit of its
-- class, a colon, the tenant. The loader computes the offsets. The epoch of a first attempt is EPOCH_ONE.
local EPOCH_ONE = '00000001'
local VERSION = 1
local FLAG = { cancelling = 1, events = 2, memory = 4, body = 8, errors = 16, retry = 32, webhook = 64, faulted = 128 }
-- What the record of a job that is ready, has no flag and began no attempt begins with, up to `at`; by class.
local NEW = {}
for class = 0, 2 do
  NEW[class] = string.sub(struct.pack(HOT, 'q', 0, class, 0, 0, 0, 0, 0, 0), 1, HOT_BYTES - 8)
end
local known

-- How much later than its time an attempt may end that then runs: an hour.
local LAST_ATTEMPT <const> = 3600000

-- Of which flows jobs became ready, a tenant and a class each; so many arguments in all.
local arrived, arrivals = {}, 0

local jobs
jobs = {
  parse = function(id, raw)
    if not raw then return nil end
    local state, flags, class, attempts, stalls, epoch, _, started, at, _, _, order, cost, _, deadline,
      tenant_len, session_len, spec_len = struct.unpack(HEAD, raw)
    local session, tenant_end = false, HEAD_BYTES + tenant_len
    if session_len > 0 then session = string.sub(raw, tenant_end + 1, tenant_end + session_len) end
    -- Sixteen fields: Lua doubles a table's size for a seventeenth.
    local j = {
      id = id, raw = raw, state = state, flags = flags, class = class, attempts = attempts,
      stalls = stalls, epoch = epoch, started = started, at = at, order = order, cost = cost,
      deadline = deadline, tenant = string.sub(raw, HEAD_BYTES + 1, tenant_end), session = session,
      spec_end = tenant_end + session_len + spec_len,
    }
    known[id] = j
    return j
  end,

  -- The job, nil when there is none.
  get = function(id) return known[id] or jobs.parse(id, call('GET', JOB .. id)) end,

  -- What is seldom asked for: the length of its output, its most attempts, the time of its acceptance.
  out_len = function(j) return (struct.unpack('<I4', j.raw, 12)) end,
  max_attempts = function(j) return (struct.unpack('<H', j.raw, HOT_BYTES + 2)) end,
  created = function(j) return (struct.unpack('<d', j.raw, CREATED_AT)) end,

  -- In how many ms a job that waits is forgotten at the latest.
  life = function(j) return (j.deadline > 0 and j.deadline - now or GIVE_UP) + LAST_ATTEMPT + RETENTION end,

  -- The first part of its record, as it is now. `out_len`: nil as long as there is no output.
  hot = function(j, out_len)
    return struct.pack(HOT, j.state, j.flags, j.class, j.attempts, j.stalls, j.epoch, out_len or 0,
      j.started, j.at)
  end,

  save = function(j) call('SETRANGE', JOB .. j.id, 0, jobs.hot(j)) end,

  has = function(j, flag) return bit.band(j.flags, flag) ~= 0 end,
  set = function(j, flag, on)
    j.flags = on and bit.bor(j.flags, flag) or bit.band(j.flags, bit.bnot(flag))
  end,

  flow = function(j) return FLOW[j.class] .. j.tenant end,
  ready_set = function(j) return READY_OF[j.class] .. j.tenant end,

  -- The member of `leases` that stands for an attempt: id, epoch in hexadecimal, flow.
  member = function(id, epoch, flow)
    return id .. (epoch == 1 and EPOCH_ONE or string.format('%08x', epoch)) .. flow
  end,

  log = function(j, kind, data)
    if bit.band(j.flags, FLAG.events) ~= 0 then append_event(j.id, kind, data) end
  end,

  -- Writes the jobs that became ready.
  flush = function()
    for n = 1, arrivals, 2 do
      local t, class = arrived[n], arrived[n + 1]
      local ready, args, count = READY_OF[class] .. t[NAME], t[ARRIVALS + class], t[ARRIVED + class]
      if count == 2 then call('ZADD', ready, args[1], args[2]) else bulk('ZADD', ready, args, 2, count) end
      t[ARRIVED + class] = 0
    end
    arrivals = 0
  end,

  -- Where the orders and ids of jobs of that flow are put that become ready, and how many stand there.
  arrivals_of = function(t, class)
    local count = t[ARRIVED + class]
    if count == 0 then
      arrived[arrivals + 1], arrived[arrivals + 2] = t, class
      arrivals = arrivals + 2
    end
    if t[KIND] ~= class then t[KIND] = WHOLE end
    return t[ARRIVALS + class], count
  end,

  make_ready = function(j)
    j.state = 'q'
    local t = flows.touch_named(j.tenant)
    local args, count = jobs.arrivals_of(t, j.class)
    args[count + 1], args[count + 2], t[ARRIVED + j.class] = j.order, j.id, count + 2
    t[READY + j.class] = t[READY + j.class] + 1
  end,

  schedule = function(j, at, retry)
    j.state, j.at = 'w', at
    flows.expect(at)
    jobs.set(j, FLAG.retry, retry)
    call('ZADD', DUE, at, j.id)
    local t = flows.touch_named(j.tenant)
    t[SCHEDULED], t[KIND] = t[SCHEDULED] + 1, WHOLE
  end,

  -- Moves a job that has left `due` into its ready set.
  promote = function(j)
    local t = flows.touch_named(j.tenant)
    t[SCHEDULED], t[KIND] = t[SCHEDULED] - 1, WHOLE
    jobs.make_ready(j)
    jobs.save(j)
  end,

  -- Moves a held job on: into `due` when its time has not come, else into its ready set.
  dispatch = function(j)
    if j.at > now then jobs.schedule(j, j.at, false) else jobs.make_ready(j) end
  end,

  count_waiting = function(j, by)
    local t = flows.touch_named(j.tenant)
    t[QUEUED] = t[QUEUED] + by
    lane[QUEUED] = lane[QUEUED] + by
  end,

  -- Has a conversation remembered until then; so long lives the set of all that its tenant has.
  keep_talk = function(tenant, session, expires)
    local talks = key('talks', tenant)
    call('ZREMRANGEBYSCORE', talks, '-inf', now)
    call('ZADD', talks, expires, session)
    call('PEXPIREAT', talks, expires, 'NX')
    call('PEXPIREAT', talks, expires, 'GT')
  end,

  -- Has a conversation with this profile remembered for so many ms from now; what is over is forgotten before.
  renew_talk = function(tenant, session, profile, ttl)
    local talk, talks = tenant .. ':' .. session, key('talks', tenant)
    if call('PEXPIRE', key('turns', talk), ttl) == 1 then
      local expires = call('ZSCORE', talks, session)
      if not expires or tonumber(expires) <= now then call('DEL', key('turns', talk)) end
    end
    call('SET', key('profile', talk), profile, 'PX', ttl)
    jobs.keep_talk(tenant, session, now + ttl)
  end,

  session_key = function(j) return key('session', j.tenant .. ':' .. j.session) end,

  -- Lets a job that is in no place wait: for its session, its time, or its turn. The caller saves it.
  admit = function(j)
    jobs.count_waiting(j, 1)
    if j.deadline > 0 then
      call('ZADD', DEADLINES, j.deadline, j.id)
      flows.expect(j.deadline)
    end
    jobs.log(j, 'Q', 'null')
    j.state = 'h'
    if not j.session or call('RPUSH', jobs.session_key(j), j.id) == 1 then jobs.dispatch(j) end
  end,

  -- Takes a waiting job out of the set that its state names.
  withdraw = function(j)
    jobs.flush()
    local t = flows.touch_named(j.tenant)
    if j.state == 'q' then
      call('ZREM', jobs.ready_set(j), j.id)
      t[READY + j.class] = t[READY + j.class] - 1
    elseif j.state == 'w' then
      call('ZREM', DUE, j.id)
      t[SCHEDULED], t[KIND] = t[SCHEDULED] - 1, WHOLE
    end
    jobs.count_waiting(j, -1)
  end,
}
