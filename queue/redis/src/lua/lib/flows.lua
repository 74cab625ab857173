-- The lane, its tenants and their flows: who may be served, in which order.
--
-- A function changes lane, tenants and jobs in tables, and writes each once at its end. A `<const>` is
-- a number that the loader writes in the place of its name.
--
-- The hash `tenants` holds a packed array for each tenant, and under '' one for the lane.
-- A time that never comes: 2^53.
local NEVER <const> = 9007199254740992

-- What stands where in the array of an owner: the lane, or a tenant. First what changes with every job,
-- fifteen numbers; then the rules, which seldom change, packed; then these as a table.
local RUNNING <const>, QUEUED <const>, REQUESTS_TAT <const>, TOKENS_TAT <const> = 1, 2, 3, 4
local PACKED <const>, RULES <const> = 16, 17

-- What stands where in the rules; -1 stands for "no bound". FREE, which is not packed, says that
-- nothing that an attempt changes can close the owner.
local PAUSED <const>, MAX_RUNNING <const>, MAX_QUEUED <const>, RPM <const>, TPM <const> = 1, 2, 3, 4, 5
local NOT_BEFORE <const>, WEIGHT <const>, CONFIGURED <const>, FREE <const> = 6, 7, 8, 9
local RULES_FORMAT = '<BddddddB'
-- Packed rules -> the table, which many owners share.
local rules, rules_kept = {}, 0

-- Behind the rules stands what is not in the store. A tenant has its NAME; the MARK of what is to be done
-- about it; whether a tag of it has MOVED; its KIND, see below; the ids of its new jobs, so many as LISTED; and
-- for each class the jobs that became ready, an order and an id each, ARRIVED numbers and ids in all. The last
-- are in the store, where they are not 0: how long the attempts of a tenant with a cap last, in the mean
-- (ATTEMPT_MS); and for each class what the attempts that run are thought to cost (UNSETTLED).
local NAME <const>, MARK <const>, MOVED <const>, KIND <const> = 18, 19, 20, 21
local WHOLE <const> = 3
local LISTED <const>, IDS <const>, ARRIVED <const>, ARRIVALS <const>, ATTEMPT_MS <const> = 22, 23, 24, 27, 30
local UNSETTLED <const> = 31
-- What is to be done about a tenant: nothing; write it; place its flows, then write it.
local READ <const>, CHANGE <const>, PLACE <const> = 0, 1, 2

-- The arrays of tenants are used again by the calls that come, which is cheaper than new ones; the first
-- `used` are those of this call.
local MOST_SPARE <const> = 1000
local spares, used = {}, 0
local lane, tenants
-- Whether a tenant that was read may have rules of its own.
local some_ruled

local owner
owner = {
  -- Its rules out of what is packed.
  read_rules = function(packed)
    local r = { unpack_numbers(RULES_FORMAT, packed) }
    r[FREE] = r[PAUSED] == 0 and r[MAX_RUNNING] < 0 and r[RPM] <= 0 and r[TPM] <= 0
    if rules_kept == 1000 then rules, rules_kept = {}, 0 end
    rules[packed], rules_kept = r, rules_kept + 1
    return r
  end,

  -- Gives it the rules that are packed so.
  set_rules = function(o, packed)
    if o[PACKED] ~= packed then o[PACKED], o[RULES] = packed, rules[packed] or owner.read_rules(packed) end
  end,

  -- Gives it the rules that `change` makes of a copy of those that it has.
  change_rules = function(o, change)
    local r = { unpack(o[RULES], 1, CONFIGURED) }
    change(r)
    owner.set_rules(o, struct.pack(RULES_FORMAT, unpack(r)))
  end,

  -- When its rates permit another attempt.
  rates_permit_at = function(o)
    local r, at = o[RULES], 0
    if r[RPM] > 0 then at = math.max(at, o[REQUESTS_TAT] - (INTERVAL - INTERVAL / r[RPM])) end
    if r[TPM] > 0 then at = math.max(at, o[TOKENS_TAT] - INTERVAL + 1) end
    return at
  end,

  -- When it may begin another attempt; nil when only a transition can tell. See Meters::open_at in
  -- embedded/flows/owners.rs.
  open_at = function(o)
    local r = o[RULES]
    if r[FREE] then return r[NOT_BEFORE] end
    if r[PAUSED] == 1 or (r[MAX_RUNNING] >= 0 and o[RUNNING] >= r[MAX_RUNNING]) then return nil end
    return math.max(r[NOT_BEFORE], owner.rates_permit_at(o))
  end,
  is_open = function(o)
    local at = owner.open_at(o)
    return at ~= nil and at <= now
  end,
  charge = function(o, cost)
    local rpm, tpm = o[RULES][RPM], o[RULES][TPM]
    if rpm > 0 then o[REQUESTS_TAT], o[KIND] = math.max(o[REQUESTS_TAT], now) + INTERVAL / rpm, WHOLE end
    if tpm > 0 then o[TOKENS_TAT], o[KIND] = math.max(o[TOKENS_TAT], now) + cost * INTERVAL / tpm, WHOLE end
  end,
  correct = function(o, difference)
    local tpm = o[RULES][TPM]
    if tpm > 0 then o[TOKENS_TAT], o[KIND] = o[TOKENS_TAT] + difference * INTERVAL / tpm, WHOLE end
  end,
}

-- The lane goes on with its virtual time; how many jobs it accepted; the mean of completions; the sum of
-- the weights of the flows in `active`, and how many these are (OFFERS); the measure of its drain;
-- SOONEST: no due job, deadline or parked tenant comes before it, it may be too early, never too late;
-- how many running jobs shall end (CANCELLING).
local VTIME <const>, ACCEPTED <const>, MEAN <const>, WEIGHTS <const>, OFFERS <const> = 5, 6, 7, 8, 9
local DRAIN_LAST <const>, DRAIN_ELAPSED <const>, DRAIN_ENDED <const>, DRAIN_PER_S <const> = 10, 11, 12, 13
local SOONEST <const>, CANCELLING <const> = 14, 15
local LANE = '<iiddddddidddddic50'
local NEW_LANE = struct.pack(LANE, 0, 0, 0, 0, 0, 0, FIRST_COMPLETION_GUESS, 0, 0, 0, 0, 0, 0, NEVER, 0,
  struct.pack(RULES_FORMAT, 0, -1, 1000000, -1, -1, 0, 1, 0))
local LANE_BYTES = #NEW_LANE
-- Behind that stands how its upstream is, see lib/health.lua: its SUCCESSES and FAULTED; when the next probe may
-- start, if it is DOWN; when it last RECOVERED; and its HEALTH, which is WELL, FAILING, DOWN, or PROBED while a probe runs.
local SUCCESSES <const>, PROBE_AT <const>, HEALTH <const>, RECOVERED <const>, FAULTED <const> = 18, 19, 20, 22, 23
local WELL <const>, FAILING <const>, DOWN <const>, PROBED <const> = 0, 1, 2, 3
local HEALTH_FORMAT = '<ddddB'
local was_visible, soonest_before

-- A tenant goes on with how many of its jobs are due; its score in `parked`, -1 when not there; and for
-- each class (add 0, 1, 2) whether its flow is OFFERED in `active`, how many jobs are READY, and the
-- virtual-time TAG.
local SCHEDULED <const>, PARKED_AT <const>, OFFERED <const>, READY <const>, TAG <const> = 5, 6, 7, 10, 13
local PLAIN_RULES = struct.pack(RULES_FORMAT, 0, -1, -1, -1, -1, 0, 1, 0)
-- Those of the lane of deliveries, where only the weight of a tenant can be set: see Policy::delivery_limits.
local DELIVERY_RULES = struct.pack(RULES_FORMAT, 0, DELIVERIES, DELIVERIES_QUEUED, -1, -1, 0, 1, 0)
-- Those of a new tenant in the shard of the call: `begin` chooses.
local NEW_RULES = PLAIN_RULES
-- Most tenants use one class, and no meter of theirs goes: these are packed short, with their rules behind
-- when they are not those of a new tenant. The KIND of such a one is its class, and all that it does not
-- pack is as in a new tenant. The others are of the KIND WHOLE; who changes something else makes a tenant such.
-- A short one of which something runs goes on with what is UNSETTLED, and says so by a class that is 4 higher;
-- a whole one with ATTEMPT_MS, and with what is UNSETTLED behind it.
local SHORT <const>, SHORT_BYTES <const> = '<BiiBid', 22
local BUSY <const>, BUSY_FORMAT <const>, BUSY_BYTES <const> = 4, '<BiiBidd', 30
local WHOLE_FORMAT <const>, WHOLE_BYTES <const> = '<BiiddidBBBiiidddc50', 126
local NEW_TENANT = struct.pack(SHORT, 0, 0, 0, 0, 0, 0)

local function new_array(n)
  local o = { 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', false, '', READ, 0, 0, 0, {}, 0, 0, 0, {}, {}, {}, 0,
    0, 0, 0 }
  owner.set_rules(o, NEW_RULES)
  spares[n] = o
  return o
end

-- Fills spare arrays, those behind so many, from the list of what is packed of each.
local function fill_tenants(behind, list, first, last)
  for n = first, last do
    local o, packed = spares[behind + n], list[n] or NEW_TENANT
    local kind, running, queued, offered, ready, tag = unpack_numbers(SHORT, packed)
    local its_rules = NEW_RULES
    if kind == WHOLE then
      kind, o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15], its_rules =
        unpack_numbers(WHOLE_FORMAT, packed)
      o[KIND], some_ruled = WHOLE, true
      o[ATTEMPT_MS] = #packed > WHOLE_BYTES and unpack_numbers('<d', packed, WHOLE_BYTES + 1) or 0
      if #packed > WHOLE_BYTES + 8 then
        o[UNSETTLED], o[UNSETTLED + 1], o[UNSETTLED + 2] = unpack_numbers('<ddd', packed, WHOLE_BYTES + 9)
      else
        o[UNSETTLED], o[UNSETTLED + 1], o[UNSETTLED + 2] = 0, 0, 0
      end
    else
      local unsettled, bytes = 0, SHORT_BYTES
      if kind >= BUSY then
        kind, unsettled, bytes = kind - BUSY, unpack_numbers('<d', packed, SHORT_BYTES + 1), BUSY_BYTES
      end
      if o[KIND] ~= kind then
        o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15], o[ATTEMPT_MS], o[KIND] =
          0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind
        o[UNSETTLED], o[UNSETTLED + 1], o[UNSETTLED + 2] = 0, 0, 0
      end
      o[RUNNING], o[QUEUED], o[OFFERED + kind], o[READY + kind], o[TAG + kind] = running, queued, offered, ready, tag
      o[UNSETTLED + kind] = unsettled
      if #packed > bytes then its_rules, some_ruled = sub(packed, bytes + 1), true end
    end
    if o[PACKED] ~= its_rules then owner.set_rules(o, its_rules) end
  end
end

-- The only class of which there is anything, if all else is as in a new tenant.
local function kind_of(o)
  if o[ATTEMPT_MS] ~= 0 or o[SCHEDULED] ~= 0 or o[PARKED_AT] ~= -1
    or o[REQUESTS_TAT] ~= 0 or o[TOKENS_TAT] ~= 0 then return WHOLE end
  local kind = nil
  for class = 0, 2 do
    if o[READY + class] ~= 0 or o[TAG + class] ~= 0 or o[UNSETTLED + class] ~= 0 then
      kind = kind and WHOLE or class
    end
  end
  return kind or 0
end

-- Packs the first so many of a list into `fields` behind so many, each with its name, and takes their marks
-- off; answers how many stand there then.
local function pack_tenants(list, count, fields, behind)
  for n = 1, count do
    local o = list[n]
    local kind = o[KIND]
    if kind == WHOLE then
      kind = kind_of(o)
      o[KIND] = kind
    end
    local packed
    if kind == WHOLE then
      packed = pack(WHOLE_FORMAT, WHOLE, unpack(o, 1, PACKED))
      if o[RUNNING] > 0 then
        packed = packed .. pack('<dddd', o[ATTEMPT_MS], unpack(o, UNSETTLED, UNSETTLED + 2))
      elseif o[ATTEMPT_MS] ~= 0 then
        packed = packed .. pack('<d', o[ATTEMPT_MS])
      end
    else
      local running, queued, offered, ready, tag, unsettled =
        o[RUNNING], o[QUEUED], o[OFFERED + kind], o[READY + kind], o[TAG + kind], o[UNSETTLED + kind]
      if unsettled == 0 then
        packed = pack(SHORT, kind, running, queued, offered, ready, tag)
      else
        packed = pack(BUSY_FORMAT, kind + BUSY, running, queued, offered, ready, tag, unsettled)
      end
      if o[PACKED] ~= NEW_RULES then packed = packed .. o[PACKED] end
    end
    o[MARK], fields[behind + 1], fields[behind + 2] = READ, o[NAME], packed
    behind = behind + 2
  end
  return behind
end

local CLASS_WEIGHT = { [0] = 16, 4, 1 }
-- What the name of a flow begins with, and the key of its ready set; the tenant follows.
local FLOW = { [0] = '0:', '1:', '2:' }
local READY_OF
-- What is touched, and what changed; and how many these are.
local touched, touches, changed, changes = {}, 0, {}, 0
-- What place() and save() write, of the first how much; the names that load() reads. They are used again by
-- every call, with a count of what is in them: new ones cost more than what they hold.
local add, added, remove, enter, park, unpark, fields, missing = {}, nil, {}, {}, {}, {}, {}, {}

local flows
flows = {
  read_lane = function(packed)
    -- Behind the last comes where the packed ones end, in the place of RULES.
    packed = packed or NEW_LANE
    lane = { unpack_numbers(LANE, packed) }
    lane[SUCCESSES], lane[FAULTED], lane[PROBE_AT], lane[RECOVERED], lane[HEALTH] = 0, 0, 0, 0, WELL
    if #packed > LANE_BYTES then
      lane[SUCCESSES], lane[FAULTED], lane[PROBE_AT], lane[RECOVERED], lane[HEALTH] =
        unpack_numbers(HEALTH_FORMAT, packed, LANE_BYTES + 1)
    end
    lane[RULES] = rules[lane[PACKED]] or owner.read_rules(lane[PACKED])
    soonest_before = lane[SOONEST]
    was_visible = flows.is_visible()
  end,

  -- Reads the tenants of a list of so many names at once, and with the first call the lane.
  load = function(names, count)
    local before, wanted, count_used = used, 0, used
    if not lane then missing[1], wanted, before = '', 1, used - 1 end
    for n = 1, count or 0 do
      local name = names[n]
      if not tenants[name] then
        wanted, count_used = wanted + 1, count_used + 1
        local t = spares[count_used] or new_array(count_used)
        missing[wanted], t[NAME], tenants[name] = name, name, t
      end
    end
    used = count_used
    for first = 1, wanted, 1000 do
      local last, from = math.min(first + 999, wanted), 1
      local packed = call('HMGET', TENANTS, unpack(missing, first, last))
      if not lane then
        flows.read_lane(packed[1])
        from = 2
      end
      fill_tenants(before + first - 1, packed, from, last - first + 1)
    end
  end,

  tenant = function(name)
    if not tenants[name] then flows.load({ name }, 1) end
    return tenants[name]
  end,

  -- Has a tenant written that is to be changed in what has no bearing on where its flows stand. Before
  -- the first change, so that what a call that fails leaves of it is not taken for clean.
  change = function(t)
    if t[MARK] == READ then
      changes = changes + 1
      t[MARK], changed[changes] = CHANGE, t
    end
  end,

  -- Has the flows of a tenant placed anew by the next place(), and the tenant written.
  touch = function(t)
    flows.change(t)
    if t[MARK] ~= PLACE then
      touches = touches + 1
      t[MARK], touched[touches] = PLACE, t
    end
  end,

  -- The tenant of that name, touched.
  touch_named = function(name)
    local t = flows.tenant(name)
    flows.touch(t)
    return t
  end,

  weight = function(t, class) return CLASS_WEIGHT[class] * t[RULES][WEIGHT] end,

  -- Moves a flow to its new tag that stays in `active`.
  move = function(t, class)
    local name = FLOW[class] .. t[NAME]
    -- Often it has moved before, with the job before.
    if added == 0 or add[added] ~= name then added = added + 2 end
    add[added - 1], add[added] = t[TAG + class], name
  end,

  -- Moves a flow back in the order by so many tokens, or forward.
  shift = function(t, class, tokens)
    flows.change(t)
    if t[KIND] ~= class then t[KIND] = WHOLE end
    t[TAG + class] = t[TAG + class] + tokens / flows.weight(t, class)
    if not t[RULES][FREE] then
      t[MOVED] = 1
      flows.touch(t)
    elseif t[OFFERED + class] == 1 then
      flows.move(t, class)
    end
  end,

  -- Counts a flow out that leaves `active`.
  withdraw = function(t, class)
    t[OFFERED + class] = 0
    lane[WEIGHTS] = lane[WEIGHTS] - flows.weight(t, class)
    lane[OFFERS] = lane[OFFERS] - 1
  end,

  -- Counts flows in that enter `active`, a tenant and a class each, so many in all. A flow that was away
  -- gains nothing by it: it returns no earlier than now. Where attempts cost less than was thought, the tags
  -- of those that stand there may be behind virtual time, and it returns as the first of them.
  enter = function(count)
    local floor, is_behind = lane[VTIME], false
    for n = 1, count, 2 do is_behind = is_behind or enter[n][TAG + enter[n + 1]] < floor end
    if is_behind and lane[OFFERS] > 0 then
      floor = math.min(floor, tonumber(call('ZRANGE', ACTIVE, '0', '0', 'WITHSCORES')[2] or floor))
    end
    for n = 1, count, 2 do
      local t, class = enter[n], enter[n + 1]
      t[TAG + class] = math.max(t[TAG + class], floor)
      t[OFFERED + class] = 1
      lane[WEIGHTS] = lane[WEIGHTS] + flows.weight(t, class)
      lane[OFFERS] = lane[OFFERS] + 1
      flows.move(t, class)
    end
    bulk('ZADD', ACTIVE, add, 2, added)
    added = 0
  end,

  -- Something comes at that time.
  expect = function(at)
    if at < lane[SOONEST] then lane[SOONEST] = at end
  end,

  -- Whether there is work that a worker can begin, now or at a known time.
  is_visible = function() return lane[OFFERS] > 0 and flows.lane_open_at() ~= nil end,

  -- When the lane may begin another attempt; nil when only a transition can tell.
  lane_open_at = function()
    if lane[HEALTH] == PROBED then return nil end
    local at = owner.open_at(lane)
    return at and lane[HEALTH] == DOWN and math.max(at, lane[PROBE_AT]) or at
  end,
  lane_is_open = function()
    local at = flows.lane_open_at()
    return at ~= nil and at <= now
  end,

  -- Decides for every touched tenant which of its flows are offered: the only place that does.
  -- `active` then holds exactly the servable flows, `parked` the tenants that a rate keeps closed.
  place = function()
    if touches + added == 0 then return end
    local removed, entering, parked, unparked = 0, 0, 0, 0
    for n = 1, touches do
      local t = touched[n]
      t[MARK] = CHANGE
      local at = owner.open_at(t)
      local open, some_ready = at ~= nil and at <= now, false
      for class = 0, 2 do
        local ready, was = t[READY + class] > 0, t[OFFERED + class] == 1
        some_ready = some_ready or ready
        if open and ready then
          if not was then
            enter[entering + 1], enter[entering + 2] = t, class
            entering = entering + 2
          elseif t[MOVED] == 1 then
            flows.move(t, class)
          end
        elseif was then
          flows.withdraw(t, class)
          removed = removed + 1
          remove[removed] = FLOW[class] .. t[NAME]
        end
      end
      t[MOVED] = 0
      if at and not open and some_ready then
        flows.expect(at)
        if at ~= t[PARKED_AT] then
          t[PARKED_AT] = at
          park[parked + 1], park[parked + 2] = at, t[NAME]
          parked = parked + 2
        end
      elseif t[PARKED_AT] >= 0 then
        t[PARKED_AT] = -1
        unparked = unparked + 1
        unpark[unparked] = t[NAME]
      end
    end
    bulk('ZADD', ACTIVE, add, 2, added)
    touches, added = 0, 0
    if removed + parked + unparked > 0 then
      bulk('ZREM', ACTIVE, remove, 1, removed)
      bulk('ZADD', PARKED, park, 2, parked)
      bulk('ZREM', PARKED, unpark, 1, unparked)
    end
    if entering > 0 then flows.enter(entering) end
  end,

  -- Writes what changed.
  save = function()
    fields[1], fields[2] = '', pack(LANE, unpack(lane, 1, PACKED))
      .. pack(HEALTH_FORMAT, lane[SUCCESSES], lane[FAULTED], lane[PROBE_AT], lane[RECOVERED], lane[HEALTH])
    bulk('HSET', TENANTS, fields, 2, pack_tenants(changed, changes, fields, 2))
    changes = 0
  end,
}
