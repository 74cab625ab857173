-- Ends attempts, then begins new ones.
-- ARGV: 2: how many to begin at most; 3: lease in ms; then 6 a settlement: lease member; numbers packed
--   as '>c1dddd' (how, prompt tokens or -1, completion tokens, delay ms, turns kept); output JSON;
--   turn JSON; error JSON; data of the `retrying` event. What does not apply is ''.
--   how: s f c x ended so; r retry; l the lane was stopped; b handed back.
-- Returns { settled, look again, job, … }: `settled` has a letter a settlement, 1 done or 0 lease not
--   held; `look again` is ms or -1; each job is { id, header, record as it was, turns }.
local max, lease_ms = tonumber(ARGV[2]), tonumber(ARGV[3])

local function settle(member_name, numbers, out, turn, err, event)
  local how, prompt, completion, delay, keep = struct.unpack('>c1dddd', numbers)
  local id = string.sub(member_name, 1, 26)
  local class, name = string.match(member_name, '^[^|]*|%d+|(%d):(.*)$')
  local j = job(id)
  local actual
  if prompt >= 0 then
    actual = prompt + completion
  elseif how == 'l' or how == 'b' then
    actual = 0
  end
  release(name, tonumber(class), (j and actual) and actual - j.cost or 0)
  if not j then return end
  if how == 's' and prompt >= 0 then lane.mean = lane.mean + (completion - lane.mean) * 0.0625 end
  if has(j, FLAG.cancelling) and (how == 'r' or how == 'l' or how == 'b') then how = 'c' end
  if how == 's' and turn ~= '' and j.session then
    local talk = j.tenant .. ':' .. j.session
    local expires = call('ZSCORE', key('talks', j.tenant), j.session)
    if expires and tonumber(expires) > now then
      call('RPUSH', key('turns', talk), turn)
      call('LTRIM', key('turns', talk), -keep, -1)
      call('PEXPIREAT', key('turns', talk), expires)
    end
  end
  if how == 'r' then
    remember_error(j, err)
    put_back(j, now + delay, 'R', event)
  elseif how == 'l' then
    lane.not_before = math.max(lane.not_before, now + delay)
    j.attempts = j.attempts - 1
    put_back(j, now, 'R', event)
  elseif how == 'b' then
    j.attempts = j.attempts - 1
    put_back(j, now, 'Q', 'null')
  else
    finish(j, how, out)
  end
end

-- Settle what is still held.
local settled = {}
if #ARGV > 3 then
  local members, ids, names = {}, {}, {}
  for i = 4, #ARGV, 6 do members[#members + 1] = ARGV[i] end
  local held = call('ZMSCORE', LEASES, unpack(members))
  local released = {}
  for n, m in ipairs(members) do
    if held[n] then
      held[n] = not released[m]
      released[m] = true
    end
    settled[n] = held[n] and '1' or '0'
    if held[n] then
      ids[#ids + 1] = key('job', string.sub(m, 1, 26))
      names[#names + 1] = string.match(m, ':(.*)$')
    end
  end
  if #ids > 0 then
    load_tenants(names)
    local raws = call('MGET', unpack(ids))
    local gone, n = {}, 0
    for k, m in ipairs(members) do
      if held[k] then
        n = n + 1
        parse(string.sub(m, 1, 26), raws[n])
        gone[n] = m
      end
    end
    bulk('ZREM', LEASES, gone, 1)
    for k = 1, #members do
      if held[k] then
        local i = 4 + (k - 1) * 6
        settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
      end
    end
  end
end

promote()
flush_ready()
place_touched()

-- Begin attempts: take from the flow with the lowest tag; among equals the first by name.
local claimed, leases, left_over = {}, {}, false

local function begin(j)
  j.state, j.started = 'r', now
  j.epoch, j.attempts = j.epoch + 1, j.attempts + 1
  save(j)
  leases[#leases + 1] = now + lease_ms
  leases[#leases + 1] = member(j)
  log(j, 'S', '{"attempt":' .. string.format('%d', j.attempts) .. '}')
  local turns
  if has(j, FLAG.memory) and j.session then
    local expires = call('ZSCORE', key('talks', j.tenant), j.session)
    if expires and tonumber(expires) > now then
      turns = call('LRANGE', key('turns', j.tenant .. ':' .. j.session), 0, -1)
    end
  end
  claimed[#claimed + 1] = { j.id, header(j), j.raw, turns or {} }
end

-- The next ready job of a flow; jobs are popped and read a few at a time, what is left goes back.
local function next_job(f, share)
  local got = f.ids
  if not got or f.at > #got then
    got = call('ZPOPMIN', key('ready', f.name), math.min(share, f.tenant.ready[f.class]))
    local records = {}
    for n = 1, #got, 2 do records[#records + 1] = key('job', got[n]) end
    f.raws = #records > 0 and call('MGET', unpack(records)) or {}
    f.ids, f.at = got, 1
  end
  local id, raw = got[f.at], f.raws[(f.at + 1) / 2]
  f.at = f.at + 2
  return id, id and (jobs[id] or parse(id, raw))
end

local function give_back(flows)
  for _, f in ipairs(flows) do
    local args = {}
    for n = f.ids and f.at or 1, f.ids and #f.ids or 0, 2 do
      args[#args + 1] = f.ids[n + 1]
      args[#args + 1] = f.ids[n]
    end
    bulk('ZADD', key('ready', f.name), args, 2)
  end
end

-- Puts a flow back among the candidates, behind those that stand before it.
local function insert(queue, first, f)
  local low, high = first, #queue + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = queue[middle]
    if other.tag < f.tag or (other.tag == f.tag and other.name < f.name) then
      low = middle + 1
    else
      high = middle
    end
  end
  table.insert(queue, low, f)
end

-- Serves the first `max` flows of `active` among themselves. All that were not read stand behind
-- them, so the order is right as long as one of them has not been served; answers whether to read on.
local function serve()
  local found = call('ZRANGE', ACTIVE, 0, max - #claimed - 1, 'WITHSCORES')
  local queue, flows, names = {}, {}, {}
  for n = 1, #found, 2 do
    local class, name = string.match(found[n], '^(%d):(.*)$')
    queue[#queue + 1] = { name = found[n], class = tonumber(class), tag = tonumber(found[n + 1]), owner = name }
    names[#names + 1] = name
  end
  if #queue == 0 then return false end
  load_tenants(names)
  local unserved, all_read = #queue, #queue < max - #claimed
  local share = math.max(1, math.ceil((max - #claimed) / #queue))
  for n, f in ipairs(queue) do
    flows[n] = f
    f.tenant = tenant(f.owner)
  end
  local first = 1
  while first <= #queue and #claimed < max and is_open(lane) and (all_read or unserved > 0) do
    local f = queue[first]
    first = first + 1
    if not f.served then unserved = unserved - 1 end
    f.served = true
    local t = f.tenant
    if t.ready[f.class] > 0 and is_open(t) then
      local id, j = next_job(f, share)
      touch(t.name)
      t.ready[f.class] = t.ready[f.class] - 1
      t.queued = t.queued - 1
      lane.queued = lane.queued - 1
      if j then
        lane.running, t.running = lane.running + 1, t.running + 1
        charge(lane, j.cost)
        charge(t, j.cost)
        lane.vtime = math.max(lane.vtime, f.tag)
        t.tag[f.class] = f.tag + j.cost / weight(t, f.class)
        f.tag = t.tag[f.class]
        begin(j)
      elseif not id then
        t.ready[f.class] = 0
      end
      if t.ready[f.class] > 0 then insert(queue, first, f) end
    end
  end
  give_back(flows)
  left_over = first <= #queue or not all_read
  place_touched()
  return not all_read and #claimed < max and is_open(lane)
end

if max > 0 then
  while is_open(lane) and serve() do end
  bulk('ZADD', LEASES, leases, 2)
end

-- What is left, and in how long there may be work without a wake-up.
place_touched()
local servable = nil
if max > 0 and is_open(lane) and not left_over then servable = false end
local lane_at = open_at(lane)
if servable == nil then servable = call('EXISTS', ACTIVE) == 1 end
if servable and lane_at then expect(lane_at) end
commit(servable)
local look_again = soonest < math.huge and math.max(0, math.ceil(soonest - now)) or -1
return { table.concat(settled), look_again, unpack(claimed) }
