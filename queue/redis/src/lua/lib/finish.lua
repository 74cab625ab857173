-- How attempts and jobs end, and how every script does. The policy stands above, written by the
-- loader:
--   RETENTION   how long an ended job is kept, in milliseconds
--   GIVE_UP     after how many milliseconds a job without a deadline ends
--   MAX_STALLS  how many workers a job may lose
--   MAX_DEAD    how many failed jobs the list of the dead holds
--   AT_ONCE     how many members of a set one transition promotes
--   MOST_TOKENS what an attempt is taken to cost at most

-- When what ends now is forgotten, as text; nil as long as nobody asked.
local forget_at

local ends
ends = {
  forget_at = function()
    forget_at = forget_at or string.format('%d', now + RETENTION)
    return forget_at
  end,

  -- Takes out of what runs of a flow what an attempt was thought to cost.
  discharge = function(t, class, cost)
    local left = t[UNSETTLED + class] - cost
    t[UNSETTLED + class] = left > 0 and left or 0
    if t[KIND] ~= class then t[KIND] = WHOLE end
  end,

  -- Ends so many attempts of a tenant's jobs: frees their slots. Needs nothing of the jobs, so that a
  -- slot comes free whatever became of its job.
  release = function(t, count)
    flows.change(t)
    lane[RUNNING] = lane[RUNNING] > count and lane[RUNNING] - count or 0
    t[RUNNING] = t[RUNNING] > count and t[RUNNING] - count or 0
    if t[RUNNING] == 0 then t[UNSETTLED], t[UNSETTLED + 1], t[UNSETTLED + 2] = 0, 0, 0 end
    if t[RULES][MAX_RUNNING] >= 0 then flows.touch(t) end
  end,

  -- Learns how long the attempts of a tenant with a cap last from one that began then; see
  -- Tenant::learn in embedded/flows/owners.rs.
  learn_duration = function(t, started)
    flows.change(t)
    local took, mean = math.max(now - started, 0), t[ATTEMPT_MS]
    t[ATTEMPT_MS] = mean > 0 and mean + (took - mean) * LEARNING_RATE or took
    t[KIND] = WHOLE
  end,

  -- Settles what an attempt of a job of that flow really cost: so much more than was thought.
  settle_cost = function(t, class, difference)
    if difference == 0 then return end
    flows.change(t)
    owner.correct(lane, difference)
    owner.correct(t, difference)
    flows.shift(t, class, difference)
  end,

  -- Measures how fast jobs end while others wait, as so many end; see Drain in embedded/flows/owners.rs.
  count = function(ended)
    if lane[QUEUED] == 0 then
      lane[DRAIN_LAST] = 0
      return
    end
    if lane[DRAIN_LAST] > 0 then
      lane[DRAIN_ELAPSED], lane[DRAIN_ENDED] = lane[DRAIN_ELAPSED] + math.max(now - lane[DRAIN_LAST], 0), lane[DRAIN_ENDED] + 1
    end
    lane[DRAIN_LAST] = now
    if lane[DRAIN_ELAPSED] >= DRAIN_WINDOW then
      local measured = lane[DRAIN_ENDED] * 1000 / lane[DRAIN_ELAPSED]
      lane[DRAIN_PER_S] = lane[DRAIN_PER_S] > 0 and (lane[DRAIN_PER_S] + measured) / 2 or measured
      lane[DRAIN_ELAPSED], lane[DRAIN_ENDED] = 0, 0
    end
    -- No time has passed for those behind the first.
    lane[DRAIN_ENDED] = lane[DRAIN_ENDED] + ended - 1
  end,

  -- Lets the session of an ended job go on with its next one, if the ended one stood first.
  leave_session = function(j)
    local line = jobs.session_key(j)
    local first = call('LRANGE', line, 0, 1)
    if first[1] ~= j.id then
      call('LREM', line, 1, j.id)
      return
    end
    call('LPOP', line)
    local id = first[2]
    while id do
      local following = jobs.get(id)
      if following then
        jobs.dispatch(following)
        return jobs.save(following)
      end
      call('LPOP', line)
      id = call('LINDEX', line, 0)
    end
  end,

  forget_cancel = function(id) lane[CANCELLING] = lane[CANCELLING] - call('SREM', CANCELS, id) end,

  -- Ends a job that is in no set any more, and hands its session on. `out` is its output as JSON,
  -- '' for none.
  finish = function(j, state, out)
    if jobs.has(j, FLAG.cancelling) then
      ends.forget_cancel(j.id)
      jobs.set(j, FLAG.cancelling, false)
    end
    -- What ended unbegun says nothing of how fast jobs are worked off.
    if j.state == 'r' then ends.count(1) end
    j.state, j.at = state, now
    if j.deadline > 0 then call('ZREM', DEADLINES, j.id) end
    local record = jobs.hot(j, #out) .. string.sub(j.raw, HOT_BYTES + 1, j.spec_end) .. out
    -- What did not succeed can be retried, and needs its body for that.
    if state ~= 's' then record = record .. string.sub(j.raw, j.spec_end + 1) end
    call('SET', JOB .. j.id, record, 'PXAT', ends.forget_at())
    -- Most jobs have no flag set, and nothing of what follows.
    if j.flags ~= 0 then
      jobs.log(j, state, 'null')
      if jobs.has(j, FLAG.body) then
        if state == 's' then
          call('DEL', key('body', j.id))
        else
          call('PEXPIREAT', key('body', j.id), ends.forget_at())
        end
      end
      if jobs.has(j, FLAG.errors) then call('PEXPIREAT', key('errors', j.id), ends.forget_at()) end
      if jobs.has(j, FLAG.events) then call('PEXPIREAT', key('events', j.id), ends.forget_at()) end
      if jobs.has(j, FLAG.faulted) then call('HDEL', P .. 'faults', j.id) end
      -- The end is to be told: see redis/outbox.rs.
      if jobs.has(j, FLAG.webhook) then
        call('ZADD', OUTBOX, now, j.id .. string.format('%016x', j.order) .. state)
      end
    end
    news[#news + 1] = 'E' .. j.id .. state
    if state == 'f' then
      call('ZADD', DEAD, now, j.id)
      call('ZREMRANGEBYRANK', DEAD, 0, -MAX_DEAD - 1)
    end
    if j.session then ends.leave_session(j) end
  end,

  -- Lets a job wait again that held a lease, with its old order, unless its deadline has passed.
  put_back = function(j, at, kind, data)
    if (j.deadline > 0 and j.deadline or jobs.created(j) + GIVE_UP) <= now then return ends.finish(j, 'x', '') end
    jobs.log(j, kind, data)
    jobs.count_waiting(j, 1)
    if at > now then jobs.schedule(j, at, true) else jobs.make_ready(j) end
    jobs.save(j)
  end,

  -- Ends a waiting job whose time is over. If its lane is down and it knows no failure of its own, its output has the
  -- latest error of the lane.
  expire = function(j)
    jobs.withdraw(j)
    local is_untried = lane[HEALTH] >= DOWN and not jobs.has(j, FLAG.errors)
    local outage = is_untried and call('HGET', P .. 'health', 'error')
    ends.finish(j, 'x', outage and '{"error":' .. outage .. '}' or '')
  end,

  -- `json`: an AttemptError; `to`: whom it is charged to, see ChargedTo in queue/src/job.rs.
  remember_error = function(j, json, to)
    local name = key('errors', j.id)
    jobs.set(j, FLAG.errors, true)
    local entry = sub(json, 1, -2) .. format(',"at":%d,"to":"%s"}', now, to)
    if call('RPUSH', name, entry) > MAX_ERRORS then call('LPOP', name) end
  end,

  -- Charges the latest errors of a job, so many of those that it was charged for, to its lane.
  forgive_errors = function(j, count)
    local name, paid = key('errors', j.id), '"to":"job"}'
    local entries = jobs.has(j, FLAG.errors) and call('LRANGE', name, 0, -1) or {}
    for n = #entries, 1, -1 do
      if count > 0 and sub(entries[n], -#paid) == paid then
        call('LSET', name, n - 1, sub(entries[n], 1, -#paid - 1) .. '"to":"lane"}')
        count = count - 1
      end
    end
  end,

  -- The members of a set whose time has come.
  come = function(set)
    return call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, AT_ONCE)
  end,

  -- Lets in what has come due: deadlines first, then jobs, then tenants.
  promote = function()
    if lane[SOONEST] > now then return end
    for _, id in ipairs(ends.come(DEADLINES)) do
      call('ZREM', DEADLINES, id)
      local j = jobs.get(id)
      if j and (j.state == 'q' or j.state == 'h' or j.state == 'w') then
        ends.expire(j)
      end
    end
    jobs.flush()
    for _, id in ipairs(ends.come(DUE)) do
      call('ZREM', DUE, id)
      local j = jobs.get(id)
      if j then jobs.promote(j) end
    end
    for _, name in ipairs(ends.come(PARKED)) do flows.touch_named(name) end
    jobs.flush()
    flows.place()
    lane[SOONEST] = NEVER
    for _, set in ipairs({ DEADLINES, DUE, PARKED }) do
      local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')
      if first[2] then flows.expect(tonumber(first[2])) end
    end
  end,
}

-- Writes what changed, tells the news, and wakes a worker when something comes earlier than any
-- worker knows, or when there is work. `only`: 'open' for a step, which must not wake itself for work
-- whose time has not come; 'new' for work where there was none before: those whom the older work woke
-- will see this too.
local function commit(only)
  jobs.flush()
  flows.place()
  flows.save()
  publish()
  local wake = flows.is_visible()
  if only == 'open' then wake = wake and flows.lane_is_open() end
  if only == 'new' then wake = wake and not was_visible end
  if wake or lane[SOONEST] < soonest_before then call('ZADD', WAKE, '0', 'a') end
end
