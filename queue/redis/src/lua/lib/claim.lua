-- Who is served next: the flows of `active` by their tags, as start-time fair queueing has it (Goyal, Vin
-- and Cheng, 1996). For calls/step.lua, which sets what belongs to its call.

-- Attempts that begin: at most how many; the reply, in which `claimed` is the place of the last record that
-- is answered, and may become `most`; whether nothing that an attempt changes can close the lane, which
-- is then open; the time as records hold it.
local max, reply, claimed, most, lane_free, now_packed
-- What stands where in the reply.
local LOOK_AGAIN <const>, TURNS <const> = 2, 4
-- The arguments of ZADD for their leases, from the last to the first behind `leases_from`: a small set is
-- searched from its front for the place of each, and ids grow with time. When they run out.
local leases, leases_from, until_then = {}, nil, nil

-- What nearly every job's record has behind its state: no flag, its class, no attempt yet. And what it
-- has when its first attempt has begun, up to the time of that; then with that time.
local FRESH, FIRST, first_now = {}, {}, {}
for class = 0, 2 do
  FRESH[class] = sub(NEW[class], 2, 15)
  FIRST[class] = sub(pack(HOT, 'r', 0, class, 1, 0, 1, 0, 0, 0), 1, HOT_BYTES - 16)
end

-- What stands where in a candidate, a flow that the turn may serve: its name, class, tag and tenant; whether
-- it was SERVED; how many of its jobs were TAKEN; of the jobs that were looked at its own stand behind
-- AT up to LAST; the order of a job that was taken as it was looked at.
local ITS_NAME <const>, ITS_CLASS <const>, ITS_TAG <const>, ITS_TENANT <const> = 1, 2, 3, 4
local SERVED <const>, TAKEN <const>, AT <const>, LAST <const>, ITS_ORDER <const> = 5, 6, 7, 8, 9

-- Begins an attempt of a job that is not as most are; answers the member of `leases` for it.
local function begin_again(f, id, raw)
  local j = jobs.parse(id, raw)
  j.state, j.started, j.attempts, j.epoch = 'r', now, j.attempts + 1, j.epoch + 1
  jobs.save(j)
  jobs.log(j, 'S', '{"attempt":' .. format('%d', j.attempts) .. '}')
  if j.session and jobs.has(j, FLAG.memory) then
    local said = call('LRANGE', key('turns', j.tenant .. ':' .. j.session), 0, -1)
    local expires = said[1] and call('ZSCORE', key('talks', j.tenant), j.session)
    if expires and tonumber(expires) > now then
      local turns = reply[TURNS] or {}
      reply[TURNS] = turns
      turns[#turns + 1] = (claimed - TURNS) / 2 + 1
      turns[#turns + 1] = said
    end
  end
  return jobs.member(id, j.epoch, f[ITS_NAME])
end

-- The jobs that were looked at, so many: their ids, the keys of their records, the records.
local ids, keys, raws, looked_at = {}, {}, nil, nil

-- Looks at up to `share` ready jobs of a flow, behind those that were taken: of all those looked at these
-- stand behind AT, up to LAST. A single one is taken as it is looked at.
local function peek(f, share)
  f[AT] = looked_at
  if share == 1 then
    local popped = call('ZPOPMIN', READIES .. f[ITS_NAME])
    local id = popped[1]
    if id then
      looked_at = looked_at + 1
      ids[looked_at], keys[looked_at], f[ITS_ORDER] = id, JOB .. id, popped[2]
    end
  else
    local found = call('ZRANGE', READIES .. f[ITS_NAME], f[TAKEN], f[TAKEN] + share - 1)
    for n = 1, #found do ids[looked_at + n], keys[looked_at + n] = found[n], JOB .. found[n] end
    looked_at = looked_at + #found
  end
  f[LAST] = looked_at
end

-- Reads the records of those that were looked at behind the first so many.
local function read_records(before)
  if looked_at == before then return end
  local found = call('MGET', unpack(keys, before + 1, looked_at))
  if before == 0 then
    raws = found
  else
    for n = 1, #found do raws[before + n] = found[n] end
  end
end

-- Takes what was begun out of the ready sets, and puts back what was taken and not begun.
local function take(found, count, share)
  for n = 1, count do
    local f = found[n]
    if share == 1 then
      if f[AT] < f[LAST] then call('ZADD', READIES .. f[ITS_NAME], f[ITS_ORDER], ids[f[LAST]]) end
    elseif f[TAKEN] > 0 then
      call('ZREMRANGEBYRANK', READIES .. f[ITS_NAME], '0', f[TAKEN] - 1)
    end
  end
end

-- Puts the flow that stood at `first` where it belongs now; answers who is first.
local function stand(queue, first, f)
  local low, high, last = first + 1, #queue + 1, queue[#queue]
  -- Where all have had a turn, it goes to the end.
  if last[ITS_TAG] < f[ITS_TAG] or (last[ITS_TAG] == f[ITS_TAG] and last[ITS_NAME] < f[ITS_NAME]) then low = high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = queue[middle]
    if other[ITS_TAG] < f[ITS_TAG] or (other[ITS_TAG] == f[ITS_TAG] and other[ITS_NAME] < f[ITS_NAME]) then
      low = middle + 1
    else
      high = middle
    end
  end
  if low == first + 1 then return first end
  if low > #queue then queue[low] = f else table.insert(queue, low, f) end
  return first + 1
end

-- Begins jobs of one flow for as long as it stands before `other` (nil for none), or a single one.
-- Answers whether it may be served again.
local function serve_flow(f, other, share, single)
  local t, class, tag, n, last = f[ITS_TENANT], f[ITS_CLASS], f[ITS_TAG], f[AT], f[LAST]
  local free = lane_free and t[RULES][FREE]
  local name, first, fresh = f[ITS_NAME], first_now[class], FRESH[class]
  if not first then
    first = FIRST[class] .. now_packed
    first_now[class] = first
  end
  local weight, ready, before, from, begun = flows.weight(t, class), t[READY + class], f[TAKEN], n, 0
  local unsettled, vtime = t[UNSETTLED + class], lane[VTIME]
  flows.change(t)
  repeat
    if n >= last then
      local read = looked_at
      f[TAKEN] = f[TAKEN] + n - from
      peek(f, share)
      read_records(read)
      n, from, last = f[AT], f[AT], f[LAST]
      if n == last then
        ready = 0
        break
      end
    end
    n, ready = n + 1, ready - 1
    local id, raw = ids[n], raws[n]
    if raw then
      local lease
      if sub(raw, 2, 15) == fresh then
        call('SETRANGE', keys[n], '0', first)
        lease = id .. EPOCH_ONE .. name
      else
        lease = begin_again(f, id, raw)
      end
      leases[leases_from - 1], leases[leases_from] = until_then, lease
      reply[claimed + 1], reply[claimed + 2] = id, raw
      leases_from, claimed, begun = leases_from - 2, claimed + 2, begun + 1
      local cost = unpack_numbers('<d', raw, COST_AT)
      if not free then
        lane[RUNNING], t[RUNNING] = lane[RUNNING] + 1, t[RUNNING] + 1
        owner.charge(lane, cost)
        owner.charge(t, cost)
      end
      local settled = tag - unsettled / weight
      if settled > vtime then vtime = settled end
      tag, unsettled = tag + cost / weight, unsettled + cost
    end
  until single or ready <= 0 or claimed >= most
    or not (free or owner.is_open(t) and owner.is_open(lane))
    or (other and (other[ITS_TAG] < tag or (other[ITS_TAG] == tag and other[ITS_NAME] < name)))
  if free then lane[RUNNING], t[RUNNING] = lane[RUNNING] + begun, t[RUNNING] + begun end
  lane[VTIME], t[UNSETTLED + class] = vtime, unsettled
  f[ITS_TAG], f[AT], f[TAKEN] = tag, n, f[TAKEN] + n - from
  local taken = f[TAKEN] - before
  t[TAG + class], t[READY + class], t[QUEUED], lane[QUEUED] = tag, ready, t[QUEUED] - taken, lane[QUEUED] - taken
  -- A tenant that no attempt can close goes on as it is.
  if free and ready > 0 then
    flows.move(t, class)
    return true
  end
  flows.touch(t)
  t[MOVED] = 1
  return ready > 0 and owner.is_open(t)
end

-- The flows that a turn serves, and their tenants; the tables are used again by the next.
local candidates, owners = {}, {}

-- Makes the first so many flows of a list candidates; answers them as they stand in `active`.
local function stand_for(found, count)
  local queue = {}
  for n = 1, count do
    local name, t, f = found[n], tenants[owners[n]], candidates[n]
    if not f then
      f = { false, 0, 0, false, false, 0, 0, 0, false }
      candidates[n] = f
    end
    local class = byte(name) - 48
    f[ITS_NAME], f[ITS_CLASS], f[ITS_TAG], f[ITS_TENANT], f[SERVED], f[TAKEN], f[AT], f[LAST] =
      name, class, t[TAG + class], t, false, 0, 0, 0
    queue[n] = f
  end
  return queue
end

-- Serves the first `max` flows of `active` among themselves. All that were not read stand behind
-- them, so the order is right as long as one of them has not been served; answers whether to read on.
local function serve()
  local wanted = (most - claimed) / 2
  local found = call('ZRANGE', ACTIVE, '0', wanted - 1)
  local count = #found
  if count == 0 then return false end
  for n = 1, count do owners[n] = sub(found[n], 3) end
  flows.load(owners, count)
  local queue = stand_for(found, count)
  local unserved, all_read, first = count, count < wanted, 1
  local share = math.ceil(wanted / count)
  looked_at, raws = 0, nil
  if share > 1 or lane_free then
    for n = 1, count do peek(candidates[n], share) end
    read_records(0)
  end
  while first <= #queue and claimed < most and (lane_free or owner.is_open(lane))
    and (all_read or unserved > 0) do
    local f = queue[first]
    if not f[SERVED] then
      f[SERVED] = true
      unserved = unserved - 1
    end
    local t = f[ITS_TENANT]
    if (t[RULES][FREE] or (t[READY + f[ITS_CLASS]] > 0 and owner.is_open(t)))
      and serve_flow(f, queue[first + 1], share, unserved == 0 and not all_read) then
      first = stand(queue, first, f)
    else
      first = first + 1
    end
  end
  take(candidates, count, share)
  flows.place()
  return not all_read and claimed < most and owner.is_open(lane)
end

-- Begins attempts: from the flow with the lowest tag; among equals the first by name.
local function begin_attempts(lease_ms)
  if max == 0 or lane[OFFERS] == 0 then return end
  if lane[HEALTH] >= DOWN then
    if not flows.lane_is_open() then return end
    health.choose_probe()
    most = TURNS + 2
  end
  lane_free, until_then, leases_from = lane[RULES][FREE], format('%d', now + lease_ms), 2 * max
  first_now[0], first_now[1], first_now[2] = nil, nil, nil
  for n = #leases + 1, leases_from do leases[n] = until_then end
  while owner.is_open(lane) and serve() do end
  if lane[HEALTH] == DOWN and claimed > TURNS then health.claimed(leases[2 * max]) end
  for first = leases_from + 1, 2 * max, 2000 do
    call('ZADD', LEASES, unpack(leases, first, math.min(first + 1999, 2 * max)))
  end
end
