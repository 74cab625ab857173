-- Lane health: whom a failed attempt is charged to, and when a failing lane is probed. The rules, and the
-- meaning of the constants, which come from there, are in queue/src/health.rs.
--
-- The lane's record says how it is, and counts its successes and faults; the hash `health` holds what matters only
-- while something fails: `failures`, `suspects` (ID_BYTES of id and 4 of count each), `cool_downs`, `since`, `probe` (a
-- member of `leases`), `error`. The set `kept_back` holds the jobs that wait for the lane to open. The hash `faults`
-- holds, for jobs with flag 128, the lane's successes and faults before, and the number of their own.
local SUSPECT_BYTES <const> = 30

local health
health = {
  -- Opens the lane, and lets the jobs run that were kept back.
  open = function()
    lane[HEALTH] = WELL
    for _, id in ipairs(call('SMEMBERS', P .. 'kept_back')) do
      local j = jobs.get(id)
      if j and j.state == 'w' and jobs.has(j, FLAG.retry) then
        call('ZREM', DUE, id)
        jobs.promote(j)
      end
    end
    call('DEL', P .. 'health', P .. 'kept_back')
  end,

  -- Whether an attempt, named by its member of `leases`, is the probe.
  is_probe = function(member) return lane[HEALTH] == PROBED and call('HGET', P .. 'health', 'probe') == member end,

  claimed = function(member)
    call('HSET', P .. 'health', 'probe', member)
    lane[HEALTH] = PROBED
  end,

  -- Answers whether the lane is open again.
  succeeded = function(member)
    lane[SUCCESSES] = lane[SUCCESSES] + 1
    if health.is_probe(member) then
      lane[RECOVERED] = now
      health.open()
      return true
    end
    if lane[HEALTH] == FAILING then health.open() end
    return false
  end,

  -- An attempt ended in a way that says nothing about the upstream. If it was the probe, the next job probes.
  ended = function(member)
    if health.is_probe(member) then
      call('HDEL', P .. 'health', 'probe')
      lane[HEALTH] = DOWN
    end
  end,

  -- Gives jobs that have not ended attempts back; a running one keeps that which it runs. `own` is the job
  -- whose attempt ends: its caller saves it.
  give_back = function(suspects, own)
    for at = 1, #suspects, SUSPECT_BYTES do
      local j = jobs.get(sub(suspects, at, at + ID_BYTES - 1))
      if j and (j.state == 'q' or j.state == 'h' or j.state == 'w' or j.state == 'r') then
        local spent = tonumber(sub(suspects, at + ID_BYTES, at + SUSPECT_BYTES - 1), 16)
        j.attempts = math.max(math.max(j.attempts - spent, 0), j.state == 'r' and 1 or 0)
        ends.forgive_errors(j, spent)
        if j.id ~= own then jobs.save(j) end
      end
    end
  end,

  -- Keeps a ready job back until the lane opens.
  keep_back = function(j)
    jobs.withdraw(j)
    jobs.count_waiting(j, 1)
    jobs.schedule(j, now + KEPT_BACK, true)
    jobs.save(j)
    call('SADD', P .. 'kept_back', j.id)
    flows.place()
  end,

  -- Has a job probe a lane that is down which has not failed, if there is one: those before it are kept back.
  choose_probe = function()
    local cool_downs = tonumber(call('HGET', P .. 'health', 'cool_downs') or 1)
    local passes_over, last = math.min(2 ^ (cool_downs - 1) - 1, MOST_PASSED_OVER), nil
    for _ = 1, AT_ONCE do
      local flow = call('ZRANGE', ACTIVE, 0, 0)[1]
      local id = flow and call('ZRANGE', READIES .. flow, 0, 0)[1]
      local j = id and jobs.get(id)
      if not flow then break end
      if not j or not jobs.has(j, FLAG.faulted) then
        if not j or passes_over == 0 then return end
        passes_over = passes_over - 1
      end
      health.keep_back(j)
      last = j
    end
    -- No job is left: the last that was kept back probes.
    if last and lane[OFFERS] == 0 then
      call('ZREM', DUE, last.id)
      jobs.promote(last)
      jobs.flush()
      flows.place()
    end
  end,

  -- Answers when the job whose failure began the cool-down may run again: if another job can probe, it is kept
  -- back until the lane opens.
  cool_down = function(j, unit)
    local known = call('HMGET', P .. 'health', 'cool_downs', 'suspects')
    local before = tonumber(known[1] or 0)
    if before == 0 then call('HSET', P .. 'health', 'since', now) end
    local length = math.min(FIRST_COOL_DOWN * 2 ^ before, LONGEST_COOL_DOWN)
    call('HSET', P .. 'health', 'cool_downs', before + 1)
    call('HDEL', P .. 'health', 'failures', 'suspects')
    lane[HEALTH], lane[PROBE_AT] = DOWN, now + math.floor(length * (PROBE_AFTER + PROBE_SPREAD * unit))
    health.give_back(known[2] or '', j.id)
    flows.shift(flows.tenant(j.tenant), j.class, j.cost)
    if lane[OFFERS] == 0 then return now + math.floor(length * SAME_JOB_AFTER) end
    call('SADD', P .. 'kept_back', j.id)
    return now + KEPT_BACK
  end,

  -- Adds a job to those with an unclear failure in a row; answers whether there are enough of them.
  suspect = function(j)
    local before, list, count = call('HGET', P .. 'health', 'suspects') or '', {}, nil
    for at = 1, #before, SUSPECT_BYTES do
      local id, spent = sub(before, at, at + ID_BYTES - 1), tonumber(sub(before, at + ID_BYTES, at + SUSPECT_BYTES - 1), 16)
      if id == j.id then count = spent else list[#list + 1] = sub(before, at, at + SUSPECT_BYTES - 1) end
    end
    local is_enough = #list + 1 >= SUSPECTS
    -- This attempt was never counted; earlier ones are subtracted.
    list[#list + 1] = j.id .. format('%04x', (count or 0) + (is_enough and 0 or 1))
    call('HSET', P .. 'health', 'suspects', table.concat(list))
    lane[HEALTH] = FAILING
    return is_enough
  end,

  -- Charges a failed attempt. Returns true if the job pays, and its next start; false, its next start, and for how many ms
  -- the lane stops, or nil. `how`: l rate, u upstream, v certain, w unavailable, d unclear; `delay` in ms; `more`: the
  -- wait of a rate in ms, else the random part of a cool-down.
  charge = function(j, member, how, delay, more)
    local is_probe = health.is_probe(member)
    health.ended(member)
    local is_down = lane[HEALTH] >= DOWN
    local known = jobs.has(j, FLAG.faulted) and call('HGET', P .. 'faults', j.id)
    local successes, faults, own = lane[SUCCESSES], lane[FAULTED], 0
    if known then successes, faults, own = unpack_numbers('<ddd', known) end
    local since = lane[SUCCESSES] - successes
    local is_proven = not is_down and since >= PROOF
    local is_exception = since * own >= PROOF * (lane[FAULTED] - faults + 1)
    local is_jobs = is_proven and (how ~= 'l' or is_exception)
    local counted = how ~= 'd' and not is_jobs and 1 or 0
    lane[FAULTED] = lane[FAULTED] + counted
    call('HSET', P .. 'faults', j.id, pack('<ddd', successes, faults + counted, own + counted))
    jobs.set(j, FLAG.faulted, true)
    if is_jobs then return true, now + delay end
    if how == 'd' then
      if is_probe then return false, health.cool_down(j, more) end
      if is_down then return false, now end
      if health.suspect(j) then return false, health.cool_down(j, more) end
      return true, now + delay
    end
    if how == 'l' then
      if is_proven then return false, now + delay end
      -- An upstream that refuses for the rate is there.
      if is_probe then
        lane[RECOVERED] = now
        health.open()
      end
      return false, now, more
    end
    local stops = how == 'w' and delay or nil
    if is_down and not is_probe then return false, now, stops end
    local weight = (how == 'v' or how == 'w') and now >= lane[RECOVERED] + CALM and FAILURES or 1
    if is_probe or call('HINCRBY', P .. 'health', 'failures', weight) >= FAILURES then
      return false, health.cool_down(j, more), stops
    end
    lane[HEALTH] = FAILING
    return false, now + delay, stops
  end,
}
