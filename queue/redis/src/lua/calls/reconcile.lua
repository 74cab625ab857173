-- Recounts what is derivable, repairs it, and forgets what nobody needs.
-- Arguments: 2: cursor of the scan over tenants, '0' to begin.
-- Returns { next cursor, repaired counts of running, of ready jobs, of offers }.
functions.reconcile = function(args)
  flows.load()
  local repaired = { running = 0, ready = 0, offers = 0 }
  if args[2] == '0' then
    ends.promote()
    if lane[HEALTH] == PROBED then
      local probe = call('HGET', P .. 'health', 'probe')
      if not probe or not call('ZSCORE', LEASES, probe) then
        call('HDEL', P .. 'health', 'probe')
        lane[HEALTH], repaired.running = DOWN, repaired.running + 1
      end
    end
    call('ZREMRANGEBYSCORE', DEAD, '-inf', now - RETENTION)
    call('ZREMRANGEBYSCORE', OUTBOX, '-inf', now - RETENTION)
  end
  for _, name in ipairs(call('ZRANGEBYSCORE', PARKED, '-inf', now)) do flows.touch_named(name) end
  jobs.flush()
  flows.place()

  local running, total = {}, 0
  for _, m in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    local name = string.sub(m, TENANT_AT)
    running[name] = (running[name] or 0) + 1
    total = total + 1
  end
  if lane[RUNNING] ~= total then
    lane[RUNNING] = total
    repaired.running = repaired.running + 1
  end

  local scan = call('HSCAN', TENANTS, args[2], 'COUNT', 500)
  local function recount(t)
    t[KIND] = WHOLE
    if t[RUNNING] ~= (running[t[NAME]] or 0) then
      t[RUNNING] = running[t[NAME]] or 0
      if t[RUNNING] == 0 then t[UNSETTLED], t[UNSETTLED + 1], t[UNSETTLED + 2] = 0, 0, 0 end
      repaired.running = repaired.running + 1
    end
    local before = lane[OFFERS]
    for class = 0, 2 do
      local name = class .. ':' .. t[NAME]
      local ready = call('ZCARD', READIES .. name)
      if t[READY + class] ~= ready then
        t[READY + class] = ready
        repaired.ready = repaired.ready + 1
      end
      local stands = call('ZSCORE', ACTIVE, name) and 1 or 0
      local by = stands - t[OFFERED + class]
      if by ~= 0 then
        repaired.offers = repaired.offers + 1
        t[OFFERED + class] = stands
        lane[OFFERS] = lane[OFFERS] + by
        lane[WEIGHTS] = lane[WEIGHTS] + by * flows.weight(t, class)
      end
    end
    flows.place()
    if lane[OFFERS] ~= before then repaired.offers = repaired.offers + 1 end
  end

  -- Takes the jobs that are forgotten from the front of a tenant's list: a thousand at once where at most
  -- half of these are still there, else one by one.
  local function trim(list)
    for _ = 1, 200 do
      local ids, keys, there = call('LRANGE', list, 0, 999), {}, {}
      for n, id in ipairs(ids) do keys[n] = JOB .. id end
      if #ids == 0 then return end
      local kept = call('EXISTS', unpack(keys))
      if kept > 0 and (#ids < 1000 or kept > 500) then break end
      call('LTRIM', list, #ids, -1)
      for n = kept > 0 and #ids or 0, 1, -1 do
        if call('EXISTS', keys[n]) == 1 then there[#there + 1] = ids[n] end
      end
      if kept > 0 then call('LPUSH', list, unpack(there)) end
    end
    for _ = 1, 1000 do
      local id = call('LINDEX', list, 0)
      if not id or call('EXISTS', JOB .. id) == 1 then return end
      call('LPOP', list)
    end
  end

  -- Ends jobs that have waited for too long: among the first ready jobs of each flow, where the oldest are. A flow
  -- whose first job is young has none. Answers whether there was one.
  local function give_up(t)
    local ended = false
    for class = 0, 2 do
      if t[READY + class] > 0 then
        for _, id in ipairs(call('ZRANGE', READIES .. class .. ':' .. t[NAME], 0, AT_ONCE - 1)) do
          local j = jobs.get(id)
          if j and jobs.created(j) + GIVE_UP > now then break end
          if j and j.deadline == 0 then
            ends.expire(j)
            ended = true
          end
        end
        jobs.flush()
      end
    end
    return ended
  end

  local forgotten = {}
  local function is_needed(t, list)
    return t[RULES][CONFIGURED] == 1 or t[RULES][PAUSED] == 1 or t[RUNNING] > 0 or t[QUEUED] > 0
      or math.max(t[TAG], t[TAG + 1], t[TAG + 2]) > lane[VTIME]
      or t[REQUESTS_TAT] > now or t[TOKENS_TAT] > now or call('EXISTS', list) == 1
  end

  for n = 1, #scan[2], 2 do
    local name = scan[2][n]
    if name ~= '' then
      local t = flows.touch_named(name)
      -- A flow that is empty now is no repair.
      if give_up(t) then flows.place() end
      recount(t)
      local list = LISTS .. name
      trim(list)
      if not is_needed(t, list) then
        forgotten[t] = true
        call('HDEL', TENANTS, name)
      end
    end
  end
  local kept = 0
  for n = 1, changes do
    local t = changed[n]
    if forgotten[t] then
      t[MARK] = READ
    else
      kept = kept + 1
      changed[kept] = t
    end
  end
  changes = kept
  commit()
  return { scan[1], repaired.running, repaired.ready, repaired.offers }
end
