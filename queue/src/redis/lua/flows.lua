-- The lane, its tenants and their flows: who may be served, in which order.
--
-- A function changes lane, tenants and jobs in tables, and writes each once at its end. A `<const>` is
-- a number that the loader writes in the place of its name.
--
-- The hash `tenants` holds a packed array for each tenant, and under '' one for the lane.
local INTERVAL <const> = 60000
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

-- Behind the rules stands what is not in the store: a tenant's NAME; the MARK of what is to be done about
-- it; whether a tag of it has MOVED; and how it is WRITTEN, 0 when that is not known.
local NAME <const>, MARK <const>, MOVED <const>, WRITTEN <const> = 18, 19, 20, 21
-- What is to be done about a tenant: nothing; write it; place its flows, then write it.
local READ <const>, CHANGE <const>, PLACE <const> = 0, 1, 2

-- Arrays that are kept for the calls that come: one that is written as the store has it need not be read
-- again. By the prefix of their shard, then by name; `keep` are those of this shard. Others are of spare
-- arrays, which the next call uses again; when these were MOST_SPARE, all are kept anew.
local MOST_KEPT <const>, MOST_SPARE <const> = 640, 50000
local kept, kept_count, keep, spare_count = {}, 0, nil, 0
local spares, used = {}, nil
local lane, tenants

local function keep_of(prefix)
  keep = kept[prefix] or {}
  kept[prefix] = keep
end

local function new_array() return { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 } end

-- An array for an owner that is not kept.
local function array(name)
  local o
  if spare_count == MOST_SPARE then
    kept, kept_count, spare_count = {}, 0, 0
    keep_of(P)
  end
  if kept_count < MOST_KEPT then
    o = new_array()
    keep[name], kept_count = o, kept_count + 1
  else
    spare_count, used = spare_count + 1, used + 1
    o = spares[used] or new_array()
    if used <= MOST_KEPT then spares[used] = o end
  end
  o[NAME] = name
  return o
end

local owner
owner = {
  -- The array of that name, which `fill` fills with what is packed.
  read = function(name, packed, fill)
    local o = keep[name]
    if o and o[WRITTEN] == packed then return o end
    o = o or array(name)
    fill(o, packed)
    o[RULES] = rules[o[PACKED]] or owner.read_rules(o[PACKED])
    o[MARK], o[MOVED], o[WRITTEN] = READ, 0, packed or 0
    return o
  end,

  -- Its rules out of what is packed.
  read_rules = function(packed)
    local r = { struct.unpack(RULES_FORMAT, packed) }
    r[FREE] = r[PAUSED] == 0 and r[MAX_RUNNING] < 0 and r[RPM] <= 0 and r[TPM] <= 0
    if rules_kept == 1000 then rules, rules_kept = {}, 0 end
    rules[packed], rules_kept = r, rules_kept + 1
    return r
  end,

  -- Gives it the rules that `change` makes of a copy of those that it has.
  change_rules = function(o, change)
    local r = { unpack(o[RULES], 1, CONFIGURED) }
    change(r)
    o[PACKED] = struct.pack(RULES_FORMAT, unpack(r))
    o[RULES] = rules[o[PACKED]] or owner.read_rules(o[PACKED])
  end,

  -- When it may begin another attempt; nil when only a transition can tell. See Meters::open_at in
  -- embedded/flows.rs.
  open_at = function(o)
    local r = o[RULES]
    if r[FREE] then return r[NOT_BEFORE] end
    if r[PAUSED] == 1 or (r[MAX_RUNNING] >= 0 and o[RUNNING] >= r[MAX_RUNNING]) then return nil end
    local at = r[NOT_BEFORE]
    if r[RPM] > 0 then at = math.max(at, o[REQUESTS_TAT] - (INTERVAL - INTERVAL / r[RPM])) end
    if r[TPM] > 0 then at = math.max(at, o[TOKENS_TAT] - INTERVAL + 1) end
    return at
  end,
  is_open = function(o)
    local at = owner.open_at(o)
    return at ~= nil and at <= now
  end,
  charge = function(o, cost)
    local rpm, tpm = o[RULES][RPM], o[RULES][TPM]
    if rpm > 0 then o[REQUESTS_TAT] = math.max(o[REQUESTS_TAT], now) + INTERVAL / rpm end
    if tpm > 0 then o[TOKENS_TAT] = math.max(o[TOKENS_TAT], now) + cost * INTERVAL / tpm end
  end,
  correct = function(o, difference)
    local tpm = o[RULES][TPM]
    if tpm > 0 then o[TOKENS_TAT] = o[TOKENS_TAT] + difference * INTERVAL / tpm end
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
local NEW_LANE = struct.pack(LANE, 0, 0, 0, 0, 0, 0, 256, 0, 0, 0, 0, 0, 0, NEVER, 0,
  struct.pack(RULES_FORMAT, 0, -1, 1000000, -1, -1, 0, 1, 0))
local was_visible, soonest_before

-- A tenant goes on with how many of its jobs are due; its score in `parked`, -1 when not there; and for
-- each class (add 0, 1, 2) whether its flow is OFFERED in `active`, how many jobs are READY, and the
-- virtual-time TAG.
local SCHEDULED <const>, PARKED_AT <const>, OFFERED <const>, READY <const>, TAG <const> = 5, 6, 7, 10, 13
local NEW_RULES = struct.pack(RULES_FORMAT, 0, -1, -1, -1, -1, 0, 1, 0)
-- Most tenants use one class, and no meter of theirs goes: they are packed short, the class first, with
-- their rules behind when these are not as a new tenant's. Others are packed whole, behind WHOLE.
local SHORT <const>, SHORT_BYTES <const> = '<BiiBid', 22
local WHOLE <const>, WHOLE_FORMAT <const> = 3, '<BiiddidBBBiiidddc50'

local function fill_lane(o, packed)
  o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15], o[PACKED] =
    struct.unpack(LANE, packed or NEW_LANE)
end
local function pack_lane(o) return struct.pack(LANE, unpack(o, 1, PACKED)) end

local function fill_tenant(o, packed)
  local class = packed and string.byte(packed)
  if class == WHOLE then
    class, o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15], o[PACKED] =
      struct.unpack(WHOLE_FORMAT, packed)
    return
  end
  o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15], o[PACKED] =
    0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, NEW_RULES
  if not packed then return end
  class, o[RUNNING], o[QUEUED], o[OFFERED + class], o[READY + class], o[TAG + class] = struct.unpack(SHORT, packed)
  if #packed > SHORT_BYTES then o[PACKED] = string.sub(packed, SHORT_BYTES + 1) end
end
local function pack_tenant(o)
  local zero, one, two = o[READY] ~= 0 or o[TAG] ~= 0, o[READY + 1] ~= 0 or o[TAG + 1] ~= 0, o[READY + 2] ~= 0 or o[TAG + 2] ~= 0
  local class = zero and 0 or one and 1 or 2
  if (zero and one) or (two and class < 2) or o[SCHEDULED] ~= 0 or o[PARKED_AT] ~= -1
    or o[REQUESTS_TAT] ~= 0 or o[TOKENS_TAT] ~= 0 then
    return struct.pack(WHOLE_FORMAT, WHOLE, unpack(o, 1, PACKED))
  end
  local short = struct.pack(SHORT, class, o[RUNNING], o[QUEUED], o[OFFERED + class], o[READY + class], o[TAG + class])
  return o[PACKED] == NEW_RULES and short or short .. o[PACKED]
end

local CLASS_WEIGHT = { [0] = 16, 4, 1 }
-- What the name of a flow begins with, and the key of its ready set; the tenant follows.
local FLOW = { [0] = '0:', '1:', '2:' }
local READY_OF
-- What is touched, and what changed; and how many these are.
local touched, touches, changed, changes = {}, nil, {}, nil
-- What place() and save() write, of the first how much; the names that load() reads. They are used again by
-- every call, with a count of what is in them: new ones cost more than what they hold.
local add, added, remove, park, unpark, fields, missing = {}, nil, {}, {}, {}, {}, {}

local flows
flows = {
  read_lane = function(packed)
    lane = owner.read('', packed, fill_lane)
    lane[WRITTEN] = 0
    soonest_before = lane[SOONEST]
    was_visible = flows.is_visible()
  end,

  read_tenant = function(name, packed)
    local t = owner.read(name, packed, fill_tenant)
    tenants[name] = t
    return t
  end,

  -- Reads the tenants of a list of so many names at once, and with the first call the lane.
  load = function(names, count)
    local wanted = 0
    if not lane then missing[1], wanted = '', 1 end
    for n = 1, count or 0 do
      local name = names[n]
      if tenants[name] == nil then
        tenants[name] = false
        wanted = wanted + 1
        missing[wanted] = name
      end
    end
    for first = 1, wanted, 1000 do
      local last = math.min(first + 999, wanted)
      local packed = call('HMGET', TENANTS, unpack(missing, first, last))
      for i = first, last do
        local name, bytes = missing[i], packed[i - first + 1]
        local o = keep[name]
        if name == '' then
          flows.read_lane(bytes)
        elseif o and o[WRITTEN] == bytes then
          tenants[name] = o
        else
          flows.read_tenant(name, bytes)
        end
      end
    end
  end,

  tenant = function(name)
    return tenants[name] or flows.read_tenant(name, call('HGET', TENANTS, name))
  end,

  -- The tenant, to be changed in what has no bearing on where its flows stand. Asked for before the first
  -- change, so that what a call that fails leaves here is not taken for what is written.
  change = function(name)
    local t = tenants[name] or flows.tenant(name)
    if t[MARK] == READ then
      changes = changes + 1
      t[MARK], t[WRITTEN], changed[changes] = CHANGE, 0, t
    end
    return t
  end,

  -- The tenant, to be changed: its flows are placed anew by the next place().
  touch = function(name)
    local t = flows.change(name)
    if t[MARK] ~= PLACE then
      touches = touches + 1
      t[MARK], touched[touches] = PLACE, t
    end
    return t
  end,

  weight = function(t, class) return CLASS_WEIGHT[class] * t[RULES][WEIGHT] end,

  -- Moves a flow to its new tag that stays in `active`.
  move = function(t, class)
    add[added + 1], add[added + 2] = t[TAG + class], FLOW[class] .. t[NAME]
    added = added + 2
  end,

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
    if touches + added == 0 then return end
    local removed, parked, unparked = 0, 0, 0
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
            -- A flow that was away gains nothing by it: it returns no earlier than now.
            t[TAG + class] = math.max(t[TAG + class], lane[VTIME])
            t[OFFERED + class] = 1
            lane[WEIGHTS] = lane[WEIGHTS] + flows.weight(t, class)
            lane[OFFERS] = lane[OFFERS] + 1
          end
          if t[MOVED] == 1 or not was then flows.move(t, class) end
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
    bulk('ZREM', ACTIVE, remove, 1, removed)
    bulk('ZADD', PARKED, park, 2, parked)
    bulk('ZREM', PARKED, unpark, 1, unparked)
  end,

  -- Writes what changed.
  save = function()
    lane[WRITTEN] = pack_lane(lane)
    fields[1], fields[2] = '', lane[WRITTEN]
    for n = 1, changes do
      local t = changed[n]
      local packed = pack_tenant(t)
      t[MARK], t[WRITTEN] = READ, packed
      fields[2 * n + 1], fields[2 * n + 2] = t[NAME], packed
    end
    bulk('HSET', TENANTS, fields, 2, 2 * changes + 2)
  end,
}
