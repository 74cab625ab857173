-- The lane, its tenants and their flows: who may be served, in which order.
--
-- A function changes lane, tenants and jobs in tables, and writes each once at its end. A `<const>` is
-- a number that the loader writes in the place of its name.
--
-- The hash `tenants` holds a packed array for each tenant, and under '' one for the lane.
local INTERVAL <const> = 60000
-- A time that never comes: 2^53.
local NEVER <const> = 9007199254740992

-- What stands where in the array of an owner: the lane, or a tenant. -1 stands for "no bound".
local PAUSED <const>, MAX_RUNNING <const>, RUNNING <const>, RPM <const>, TPM <const> = 1, 2, 3, 4, 5
local REQUESTS_TAT <const>, TOKENS_TAT <const>, NOT_BEFORE <const> = 6, 7, 8
local MAX_QUEUED <const>, QUEUED <const> = 9, 10

local owner
owner = {
  -- When it may begin another attempt; nil when only a transition can tell. See Meters::open_at in
  -- embedded/flows.rs.
  open_at = function(o)
    if o[PAUSED] == 1 or (o[MAX_RUNNING] >= 0 and o[RUNNING] >= o[MAX_RUNNING]) then return nil end
    local at = o[NOT_BEFORE]
    if o[RPM] > 0 then at = math.max(at, o[REQUESTS_TAT] - (INTERVAL - INTERVAL / o[RPM])) end
    if o[TPM] > 0 then at = math.max(at, o[TOKENS_TAT] - INTERVAL + 1) end
    return at
  end,
  is_open = function(o)
    local at = owner.open_at(o)
    return at ~= nil and at <= now
  end,
  charge = function(o, cost)
    if o[RPM] > 0 then o[REQUESTS_TAT] = math.max(o[REQUESTS_TAT], now) + INTERVAL / o[RPM] end
    if o[TPM] > 0 then o[TOKENS_TAT] = math.max(o[TOKENS_TAT], now) + cost * INTERVAL / o[TPM] end
  end,
  correct = function(o, difference)
    if o[TPM] > 0 then o[TOKENS_TAT] = o[TOKENS_TAT] + difference * INTERVAL / o[TPM] end
  end,
}

-- The lane goes on with its virtual time; how many jobs it accepted; the mean of completions; the sum of
-- the weights of the flows in `active`, and how many these are (OFFERS); the measure of its drain;
-- SOONEST: no due job, deadline or parked tenant comes before it, it may be too early, never too late;
-- how many running jobs shall end (CANCELLING).
local VTIME <const>, ACCEPTED <const>, MEAN <const>, WEIGHTS <const>, OFFERS <const> = 11, 12, 13, 14, 15
local DRAIN_LAST <const>, DRAIN_ELAPSED <const>, DRAIN_ENDED <const>, DRAIN_PER_S <const> = 16, 17, 18, 19
local SOONEST <const>, CANCELLING <const>, LANE_FIELDS <const> = 20, 21, 21
local LANE = '<' .. string.rep('d', LANE_FIELDS)
local lane, was_visible, soonest_before

-- A tenant goes on with its weight; whether it was configured; how many of its jobs are due; its score
-- in `parked`, -1 when not there; and for each class (add 0, 1, 2) whether its flow is OFFERED in
-- `active`, how many jobs are READY, and the virtual-time TAG. Of no meaning in the store: the MARK of
-- what is to be done about it, whether a tag has MOVED (1), and behind all that is packed its NAME.
local WEIGHT <const>, CONFIGURED <const>, SCHEDULED <const>, PARKED_AT <const> = 11, 12, 13, 14
local OFFERED <const>, READY <const>, TAG <const> = 15, 18, 21
local MARK <const>, MOVED <const>, NAME <const>, TENANT_FIELDS <const> = 24, 25, 26, 25
local TENANT = '<' .. string.rep('d', TENANT_FIELDS)
local CLASS_WEIGHT = { [0] = 16, 4, 1 }
-- What the name of a flow begins with; the tenant follows.
local FLOW = { [0] = '0:', '1:', '2:' }
local tenants, touched, changed
-- What is to be done about a tenant: nothing; write it; place its flows, then write it.
local READ <const>, CHANGE <const>, PLACE <const> = 0, 1, 2

local flows
flows = {
  read_lane = function(packed)
    lane = packed and { struct.unpack(LANE, packed) }
      or { 0, -1, 0, -1, -1, 0, 0, 0, 1000000, 0, 0, 0, 256, 0, 0, 0, 0, 0, 0, NEVER, 0 }
    soonest_before = lane[SOONEST]
    was_visible = flows.is_visible()
  end,

  read_tenant = function(name, packed)
    -- What unpack answers last is the place behind the end: there the name goes.
    local t = packed and { struct.unpack(TENANT, packed) }
      or { 0, -1, 0, -1, -1, 0, 0, 0, -1, 0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
    t[NAME], t[MARK], t[MOVED] = name, READ, 0
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
    if t[MARK] == READ then
      t[MARK] = CHANGE
      changed[#changed + 1] = t
    end
    return t
  end,

  -- The tenant, to be changed: its flows are placed anew by the next place().
  touch = function(name)
    local t = flows.change(name)
    if t[MARK] ~= PLACE then
      t[MARK] = PLACE
      touched[#touched + 1] = t
    end
    return t
  end,

  weight = function(t, class) return CLASS_WEIGHT[class] * t[WEIGHT] end,

  -- Counts a flow out that leaves `active`.
  withdraw = function(t, class)
    t[OFFERED + class] = 0
    lane[WEIGHTS] = lane[WEIGHTS] - flows.weight(t, class)
    lane[OFFERS] = lane[OFFERS] - 1
  end,

  -- Something comes at that time.
  expect = function(at)
    if at < lane[SOONEST] then lane[SOONEST] = at end
  end,

  -- Whether there is work that a worker can begin, now or at a known time.
  is_visible = function() return lane[OFFERS] > 0 and owner.open_at(lane) ~= nil end,

  -- What a call answers that has no room for so many jobs.
  full = function(scope, limit, wanted)
    return { 'full', scope, limit, wanted - limit, string.format('%.17g', lane[DRAIN_PER_S]) }
  end,

  -- Decides for every touched tenant which of its flows are offered: the only place that does.
  -- `active` then holds exactly the servable flows, `parked` the tenants that a rate keeps closed.
  place = function()
    if #touched == 0 then return end
    local add, remove, park, unpark = {}, {}, {}, {}
    for _, t in ipairs(touched) do
      t[MARK] = CHANGE
      local at = owner.open_at(t)
      local open, some_ready = at ~= nil and at <= now, false
      for class = 0, 2 do
        local ready, was = t[READY + class] > 0, t[OFFERED + class] == 1
        some_ready = some_ready or ready
        if open and ready then
          if not was then
            -- A flow that was away gains nothing by it: it returns no earlier than now.
            t[TAG + class] = math.max(t[TAG + class], lane[VTIME])
            t[OFFERED + class] = 1
            lane[WEIGHTS] = lane[WEIGHTS] + flows.weight(t, class)
            lane[OFFERS] = lane[OFFERS] + 1
          end
          if t[MOVED] == 1 or not was then
            add[#add + 1] = t[TAG + class]
            add[#add + 1] = FLOW[class] .. t[NAME]
          end
        elseif was then
          flows.withdraw(t, class)
          remove[#remove + 1] = FLOW[class] .. t[NAME]
        end
      end
      t[MOVED] = 0
      if at and not open and some_ready then
        flows.expect(at)
        if at ~= t[PARKED_AT] then
          t[PARKED_AT] = at
          park[#park + 1] = at
          park[#park + 1] = t[NAME]
        end
      elseif t[PARKED_AT] >= 0 then
        t[PARKED_AT] = -1
        unpark[#unpark + 1] = t[NAME]
      end
    end
    touched = {}
    bulk('ZADD', ACTIVE, add, 2)
    bulk('ZREM', ACTIVE, remove, 1)
    bulk('ZADD', PARKED, park, 2)
    bulk('ZREM', PARKED, unpark, 1)
  end,

  -- Writes what changed.
  save = function()
    local fields = { '', struct.pack(LANE, unpack(lane, 1, LANE_FIELDS)) }
    for _, t in ipairs(changed) do
      fields[#fields + 1] = t[NAME]
      fields[#fields + 1] = struct.pack(TENANT, unpack(t, 1, TENANT_FIELDS))
    end
    bulk('HSET', TENANTS, fields, 2)
  end,
}
