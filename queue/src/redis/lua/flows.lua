-- The lane, its tenants and their flows: who may be served, in which order.
--
-- A script changes lane, tenants and jobs in tables, and writes each once at its end. The functions
-- stand in tables, one a file: closures over many locals are slow to make, and all are made anew
-- for every call.
--
-- The hash `tenants` holds a packed string for each tenant, and under '' one for the lane.
local TENANTS, ACTIVE, PARKED = P .. 'tenants', P .. 'active', P .. 'parked'
local INTERVAL = 60000
-- A time that never comes.
local NEVER = 2 ^ 53

-- Rates and caps of an owner: the lane, or a tenant. -1 stands for "no bound".
local owner
owner = {
  -- When it may begin another attempt; nil when only a transition can tell. See Meters::open_at in
  -- embedded/flows.rs.
  open_at = function(o)
    if o.paused == 1 or (o.max_running >= 0 and o.running >= o.max_running) then return nil end
    local at = o.not_before
    if o.rpm > 0 then at = math.max(at, o.requests_tat - (INTERVAL - INTERVAL / o.rpm)) end
    if o.tpm > 0 then at = math.max(at, o.tokens_tat - INTERVAL + 1) end
    return at
  end,
  is_open = function(o)
    local at = owner.open_at(o)
    return at ~= nil and at <= now
  end,
  charge = function(o, cost)
    if o.rpm > 0 then o.requests_tat = math.max(o.requests_tat, now) + INTERVAL / o.rpm end
    if o.tpm > 0 then o.tokens_tat = math.max(o.tokens_tat, now) + cost * INTERVAL / o.tpm end
  end,
  correct = function(o, difference)
    if o.tpm > 0 then o.tokens_tat = o.tokens_tat + difference * INTERVAL / o.tpm end
  end,
}

-- `soonest`: no due job, deadline or parked tenant comes before it; it may be too early, never too
-- late. `offered`: how many flows stand in `active`; `weight`: the sum of their weights; `cancels`: how
-- many running jobs shall end.
local LANE = '<ddddddddddddddddddddd'
local lane

-- A tenant's `offered` has a bit for each class that stands in `active`; `parked` is its score in
-- `parked`, -1 when not there. In its array part, by class (0, 1, 2): how many are ready, the
-- virtual-time tags, and the tags as they stand in `active`.
local TENANT = '<dddddddddddddddddddd'
local READY, TAG, PLACED = 1, 4, 7
local CLASS_WEIGHT = { [0] = 16, 4, 1 }
local BIT = { [0] = 1, 2, 4 }
-- What the name of a flow begins with; the tenant follows.
local FLOW = { [0] = '0:', '1:', '2:' }
local tenants, touched, changed = {}, {}, {}
-- What is to be done about a tenant: nothing; write it; place its flows, then write it.
local READ, CHANGED, TOUCHED = 0, 1, 2

local flows
flows = {
  read_lane = function(packed)
    local vtime, accepted, running, queued, mean, weight, paused, not_before, requests_tat, tokens_tat,
      max_running, max_queued, rpm, tpm, drain_last, drain_elapsed, drain_ended, drain_per_s, soonest,
      offered, cancels =
      0, 0, 0, 0, 256, 0, 0, 0, 0, 0, -1, 1000000, -1, -1, 0, 0, 0, 0, NEVER, 0, 0
    if packed then
      vtime, accepted, running, queued, mean, weight, paused, not_before, requests_tat, tokens_tat,
        max_running, max_queued, rpm, tpm, drain_last, drain_elapsed, drain_ended, drain_per_s, soonest,
        offered, cancels = struct.unpack(LANE, packed)
    end
    lane = {
      vtime = vtime, accepted = accepted, running = running, queued = queued, mean = mean, weight = weight,
      paused = paused, not_before = not_before, requests_tat = requests_tat, tokens_tat = tokens_tat,
      max_running = max_running, max_queued = max_queued, rpm = rpm, tpm = tpm,
      drain_last = drain_last, drain_elapsed = drain_elapsed, drain_ended = drain_ended,
      drain_per_s = drain_per_s,
      soonest = soonest, soonest_before = soonest, offered = offered, cancels = cancels,
    }
    lane.was_visible = flows.is_visible()
  end,

  read_tenant = function(name, packed)
    local weight, max_running, max_queued, rpm, tpm, configured, paused, running, queued, scheduled,
      requests_tat, tokens_tat, parked, offered, ready0, ready1, ready2, tag0, tag1, tag2 =
      1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0
    if packed then
      weight, max_running, max_queued, rpm, tpm, configured, paused, running, queued, scheduled,
        requests_tat, tokens_tat, parked, offered, ready0, ready1, ready2, tag0, tag1, tag2 =
        struct.unpack(TENANT, packed)
    end
    local t = {
      ready0, ready1, ready2, tag0, tag1, tag2, tag0, tag1, tag2,
      name = name, weight = weight, max_running = max_running, max_queued = max_queued, rpm = rpm,
      tpm = tpm, configured = configured, paused = paused, running = running, queued = queued,
      scheduled = scheduled, requests_tat = requests_tat, tokens_tat = tokens_tat, parked = parked,
      offered = offered, not_before = 0, mark = READ,
    }
    tenants[name] = t
    return t
  end,

  -- Reads the tenants of a list of names at once, and with the first call the lane.
  load = function(names)
    local missing, seen = {}, {}
    if not lane then missing[1] = '' end
    for _, name in ipairs(names) do
      if not tenants[name] and not seen[name] then
        seen[name] = true
        missing[#missing + 1] = name
      end
    end
    for first = 1, #missing, 1000 do
      local last = math.min(first + 999, #missing)
      local packed = call('HMGET', TENANTS, unpack(missing, first, last))
      for i = first, last do
        if missing[i] == '' then
          flows.read_lane(packed[i - first + 1])
        else
          flows.read_tenant(missing[i], packed[i - first + 1])
        end
      end
    end
  end,

  tenant = function(name)
    return tenants[name] or flows.read_tenant(name, call('HGET', TENANTS, name))
  end,

  -- The tenant, to be changed in what has no bearing on where its flows stand.
  change = function(name)
    local t = tenants[name] or flows.tenant(name)
    if t.mark == READ then
      t.mark = CHANGED
      changed[#changed + 1] = t
    end
    return t
  end,

  -- The tenant, to be changed: its flows are placed anew by the next place().
  touch = function(name)
    local t = flows.change(name)
    if t.mark ~= TOUCHED then
      t.mark = TOUCHED
      touched[#touched + 1] = t
    end
    return t
  end,

  weight = function(t, class) return CLASS_WEIGHT[class] * t.weight end,
  offers = function(t, class) return bit.band(t.offered, BIT[class]) ~= 0 end,

  -- Something comes at that time.
  expect = function(at)
    if at < lane.soonest then lane.soonest = at end
  end,

  -- Whether there is work that a worker can begin, now or at a known time.
  is_visible = function() return lane.offered > 0 and owner.open_at(lane) ~= nil end,

  -- Decides for every touched tenant which of its flows are offered: the only place that does.
  -- `active` then holds exactly the servable flows, `parked` the tenants that a rate keeps closed.
  place = function()
    if #touched == 0 then return end
    local add, remove, park, unpark = {}, {}, {}, {}
    for _, t in ipairs(touched) do
      t.mark = CHANGED
      local at = owner.open_at(t)
      local open = at ~= nil and at <= now
      local offered, some_ready = 0, false
      for class = 0, 2 do
        local ready, was = t[READY + class] > 0, bit.band(t.offered, BIT[class]) ~= 0
        local wanted = open and ready
        some_ready = some_ready or ready
        if wanted then
          -- A flow that was away gains nothing by it: it returns no earlier than now.
          if not was then t[TAG + class] = math.max(t[TAG + class], lane.vtime) end
          offered = offered + BIT[class]
          if not was or t[PLACED + class] ~= t[TAG + class] then
            t[PLACED + class] = t[TAG + class]
            add[#add + 1] = t[TAG + class]
            add[#add + 1] = FLOW[class] .. t.name
          end
        elseif was then
          remove[#remove + 1] = FLOW[class] .. t.name
        end
        if wanted ~= was then
          local by = wanted and 1 or -1
          lane.weight = lane.weight + by * CLASS_WEIGHT[class] * t.weight
          lane.offered = lane.offered + by
        end
      end
      t.offered = offered
      local parked = (at ~= nil and not open and some_ready) and at or -1
      if parked >= 0 then
        flows.expect(parked)
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
  end,

  -- Writes what changed.
  save = function()
    local fields = { '', struct.pack(LANE, lane.vtime, lane.accepted, lane.running, lane.queued,
      lane.mean, lane.weight, lane.paused, lane.not_before, lane.requests_tat, lane.tokens_tat,
      lane.max_running, lane.max_queued, lane.rpm, lane.tpm, lane.drain_last, lane.drain_elapsed,
      lane.drain_ended, lane.drain_per_s, lane.soonest, lane.offered, lane.cancels) }
    for _, t in ipairs(changed) do
      fields[#fields + 1] = t.name
      fields[#fields + 1] = struct.pack(TENANT, t.weight, t.max_running, t.max_queued, t.rpm, t.tpm,
        t.configured, t.paused, t.running, t.queued, t.scheduled, t.requests_tat, t.tokens_tat,
        t.parked, t.offered, t[1], t[2], t[3], t[4], t[5], t[6])
    end
    bulk('HSET', TENANTS, fields, 2)
  end,
}
