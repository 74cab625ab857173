-- Ends attempts, then begins new ones.
-- Arguments: 2: how many to begin at most; 3: lease in ms; then a settlement:
--   3 of a job without flags, session and deadline that succeeded: lease member; numbers packed as '<c1ddd'
--   ('S', prompt tokens or -1, completion tokens, its cost); its record as it shall be;
--   6 of another: lease member; numbers packed as '<c1dddd' (how, prompt tokens or -1, completion tokens,
--   delay ms, turns kept); output JSON; turn JSON; error JSON; data of the `retrying` event. What does not
--   apply is ''. How: s f c x ended so; r retry; l the lane was stopped; b handed back.
-- Returns { settled, look again, now, turns, id, record, … }: `settled` has a letter a settlement, 1
--   done or 0 lease not held; `look again` is ms or -1, never later than there may be work; `now` is
--   packed as in a record; `turns` has, for each job that remembers, its number among those begun and a
--   list; each job that was begun is its id and its record as it was before.

-- What the call is told; the time as records hold it.
local args, now_packed
local PLAIN = string.byte('S')
local sub, byte, unpack_numbers = string.sub, string.byte, struct.unpack

local function remember(j, turn, keep)
  local talk = j.tenant .. ':' .. j.session
  local expires = call('ZSCORE', key('talks', j.tenant), j.session)
  if expires and tonumber(expires) > now then
    local length = call('RPUSH', key('turns', talk), turn)
    if length > keep then call('LTRIM', key('turns', talk), -keep, -1) end
    if length == 1 then call('PEXPIREAT', key('turns', talk), expires) end
  end
end

-- The end of a job that has nothing but its record, which has come along.
local function settle_plain(m, name, i, forgotten_at)
  local prompt, completion, cost = unpack_numbers('<ddd', args[i + 1], 2)
  local id, count = sub(m, 1, 26), #news
  local difference = 0
  if prompt >= 0 then
    difference = prompt + completion - cost
    lane[MEAN] = lane[MEAN] + (completion - lane[MEAN]) * 0.0625
  end
  ends.release(name, byte(m, 35) - 48, difference)
  if lane[CANCELLING] > 0 then ends.forget_cancel(id) end
  call('SET', JOB .. id, args[i + 2], 'PXAT', forgotten_at)
  news[count + 1], news[count + 2], news[count + 3] = 'E', id, 's'
end

local function settle(m, name, j, i)
  local how, prompt, completion, delay, keep = struct.unpack('<c1dddd', args[i + 1])
  local difference = 0
  if j and prompt >= 0 then
    difference = prompt + completion - j.cost
  elseif j and (how == 'l' or how == 'b') then
    difference = -j.cost
  end
  ends.release(name, string.byte(m, 35) - 48, difference)
  if not j then return end
  if how == 's' and prompt >= 0 then lane[MEAN] = lane[MEAN] + (completion - lane[MEAN]) * 0.0625 end
  if (how == 'r' or how == 'l' or how == 'b') and jobs.has(j, FLAG.cancelling) then how = 'c' end
  if how == 's' and j.session and args[i + 3] ~= '' then remember(j, args[i + 3], keep) end
  if how == 'r' then
    ends.remember_error(j, args[i + 4])
    ends.put_back(j, now + delay, 'R', args[i + 5])
  elseif how == 'l' then
    owner.change_rules(lane, function(r) r[NOT_BEFORE] = math.max(r[NOT_BEFORE], now + delay) end)
    j.attempts = j.attempts - 1
    ends.put_back(j, now, 'R', args[i + 5])
  elseif how == 'b' then
    j.attempts = j.attempts - 1
    ends.put_back(j, now, 'Q', 'null')
  else
    ends.finish(j, how, args[i + 2])
  end
end

-- Which of these leases were held, a letter each, as nothing has changed yet in the records: a job runs,
-- in this very epoch, as long as its lease is held.
local function held_of(members)
  local letters, seen, keys = {}, {}, {}
  for n, m in ipairs(members) do keys[n] = JOB .. string.sub(m, 1, 26) end
  local raws = call('MGET', unpack(keys))
  for n, m in ipairs(members) do
    local j = jobs.parse(string.sub(m, 1, 26), raws[n])
    local held = j and not seen[m] and j.state == 'r' and string.format('%08x', j.epoch) == string.sub(m, 27, 34)
    seen[m], letters[n] = true, held and '1' or '0'
  end
  return letters
end

-- The lease members that came, and their tenants; the arrays are used again by the next call.
local members, names = {}, {}

-- Settles what is still held: a lease is given up by whoever takes it out of `leases`. Answers `settled`
-- of the reply.
local function settle_all()
  local looked_at, count, i, last = {}, 0, 4, #args
  while i <= last do
    local m = args[i]
    count = count + 1
    members[count], names[count] = m, sub(m, 37)
    if byte(args[i + 1]) == PLAIN then
      i = i + 3
    else
      i = i + 6
      looked_at[#looked_at + 1] = JOB .. sub(m, 1, 26)
    end
  end
  -- Nearly always all were held, each once.
  local letters
  if count > 0 and call('ZREM', LEASES, unpack(members, 1, count)) < count then
    letters = held_of({ unpack(members, 1, count) })
  end
  flows.load(names, count)
  -- Records that need a look are all read before one is settled: the end of one may move another.
  local raws = #looked_at > 0 and call('MGET', unpack(looked_at))
  for n, name in ipairs(looked_at) do jobs.parse(sub(name, -26), raws[n]) end

  local forgotten_at, plain, all_plain = count > 0 and ends.forget_at(), 0, #looked_at == 0
  i = 4
  for n = 1, count do
    local m, held = args[i], not letters or letters[n] == '1'
    if all_plain or byte(args[i + 1]) == PLAIN then
      if held then
        settle_plain(m, names[n], i, forgotten_at)
        plain = plain + 1
      end
      i = i + 3
    else
      if plain > 0 then ends.count(plain) end
      plain = 0
      if held then settle(m, names[n], known[sub(m, 1, 26)], i) end
      i = i + 6
    end
  end
  if plain > 0 then ends.count(plain) end
  return letters and table.concat(letters) or string.rep('1', count)
end

-- Attempts that begin: at most how many; the reply, in which `claimed` is the place of the last record that
-- is answered; the members of `leases`, and how many; whether nothing that an attempt changes can close the
-- lane, which is then open.
local max, reply, claimed, begun_count, lane_free
local begun, leases = {}, {}
-- What stands where in the reply.
local LOOK_AGAIN <const>, TURNS <const> = 2, 4

-- What nearly every job's record has behind its state: no flag, its class, no attempt yet. And what it
-- has when its first attempt has begun, up to the time of that.
local FRESH, FIRST = {}, {}
for class = 0, 2 do
  FRESH[class] = string.sub(NEW[class], 2, 15)
  FIRST[class] = string.sub(struct.pack(HOT, 'r', 0, class, 1, 0, 1, 0, 0, 0), 1, HOT_BYTES - 16)
end

-- The same with the time, by class, and which time that is.
local first_now, first_at = {}, {}

-- Begins an attempt of a job that is not as most are.
local function begin_again(f, id, raw)
  local j = jobs.parse(id, raw)
  j.state, j.started, j.attempts, j.epoch = 'r', now, j.attempts + 1, j.epoch + 1
  jobs.save(j)
  begun[begun_count] = jobs.member(id, j.epoch, f.name)
  jobs.log(j, 'S', '{"attempt":' .. string.format('%d', j.attempts) .. '}')
  if j.session and jobs.has(j, FLAG.memory) then
    local said = call('LRANGE', key('turns', j.tenant .. ':' .. j.session), 0, -1)
    local expires = said[1] and call('ZSCORE', key('talks', j.tenant), j.session)
    if expires and tonumber(expires) > now then
      local turns = reply[TURNS]
      turns[#turns + 1] = (claimed - TURNS) / 2 + 1
      turns[#turns + 1] = said
    end
  end
end

-- Reads up to `share` ready jobs of each of so many flows, behind those that were taken, all at once. A
-- single one is taken as it is read.
local function peek(found, count, share)
  local keys = {}
  for n = 1, count do
    local f = found[n]
    f.base, f.first = f.taken, #keys
    if share == 1 then
      local popped = call('ZPOPMIN', f.ready)
      if popped[1] then keys[#keys + 1] = JOB .. popped[1] end
      f.ids, f.order, popped[2] = popped, popped[2], nil
    else
      f.ids = call('ZRANGE', f.ready, f.taken, f.taken + share - 1)
      for _, id in ipairs(f.ids) do keys[#keys + 1] = JOB .. id end
    end
  end
  local raws = #keys > 0 and call('MGET', unpack(keys)) or {}
  for n = 1, count do found[n].keys, found[n].raws = keys, raws end
end

-- Takes what was begun out of the ready sets, and puts back what was taken and not begun.
local function take(found, count, share)
  for n = 1, count do
    local f = found[n]
    if share == 1 then
      if f.taken - f.base < #f.ids then call('ZADD', f.ready, f.order, f.ids[1]) end
    elseif f.taken > 0 then
      call('ZREMRANGEBYRANK', f.ready, 0, f.taken - 1)
    end
  end
end

-- Puts the flow that stood at `first` where it belongs now; answers who is first.
local function stand(queue, first, f)
  local low, high, last = first + 1, #queue + 1, queue[#queue]
  -- Where all have had a turn, it goes to the end.
  if last.tag < f.tag or (last.tag == f.tag and last.name < f.name) then low = high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = queue[middle]
    if other.tag < f.tag or (other.tag == f.tag and other.name < f.name) then
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
local function serve_flow(f, other, share, single)
  local t, class, free = f.tenant, f.class, f.free and lane_free
  if first_at[class] ~= now then first_at[class], first_now[class] = now, FIRST[class] .. now_packed end
  local weight, fresh, first, begun_first = flows.weight(t, class), FRESH[class], first_now[class], EPOCH_ONE .. f.name
  local before, ready, most, tag = f.taken, t[READY + class], 2 * max + TURNS, f.tag
  local ids, n, count, place = f.ids, before - f.base, #f.ids, f.first
  flows.change(t[NAME])
  repeat
    if n >= count then
      f.taken = f.base + n
      peek({ f }, 1, share)
      ids, n, count, place = f.ids, 0, #f.ids, f.first
    end
    n, ready = n + 1, ready - 1
    local id, raw = ids[n], f.raws[place + n]
    if raw then
      begun_count = begun_count + 1
      if sub(raw, 2, 15) == fresh then
        call('SETRANGE', f.keys[place + n], '0', first)
        begun[begun_count] = id .. begun_first
      else
        begin_again(f, id, raw)
      end
      reply[claimed + 1], reply[claimed + 2] = id, raw
      claimed = claimed + 2
      local cost = unpack_numbers('<d', raw, COST_AT)
      lane[RUNNING], t[RUNNING] = lane[RUNNING] + 1, t[RUNNING] + 1
      if not free then
        owner.charge(lane, cost)
        owner.charge(t, cost)
      end
      if tag > lane[VTIME] then lane[VTIME] = tag end
      tag = tag + cost / weight
    elseif not id then
      ready = 0
    end
  until single or ready <= 0 or claimed >= most
    or not (free or owner.is_open(t) and owner.is_open(lane))
    or (other and (other.tag < tag or (other.tag == tag and other.name < f.name)))
  f.tag, f.taken = tag, f.base + n
  t[TAG + class], t[READY + class] = tag, ready
  -- A tenant that no attempt can close goes on as it is.
  if f.free and ready > 0 then
    flows.move(t, class)
  else
    flows.touch(t[NAME])
    t[MOVED] = 1
  end
  t[QUEUED], lane[QUEUED] = t[QUEUED] - (f.taken - before), lane[QUEUED] - (f.taken - before)
end

-- The flows that a turn serves, and their tenants; the tables are used again by the next.
local candidates, owners, NONE = {}, {}, {}
local function candidate(n, name, t)
  local f = candidates[n]
  if not f then
    f = {
      name = false, ready = false, class = 0, tag = 0, tenant = false, free = false, served = false,
      ids = NONE, order = false, keys = false, raws = false, base = 0, first = 0, taken = 0,
    }
    candidates[n] = f
  end
  local class = string.byte(name) - 48
  f.name, f.ready, f.class, f.tag, f.tenant = name, READIES .. name, class, t[TAG + class], t
  f.free, f.served, f.ids, f.base, f.taken = t[RULES][FREE], false, NONE, 0, 0
  return f
end

-- Serves the first `max` flows of `active` among themselves. All that were not read stand behind
-- them, so the order is right as long as one of them has not been served; answers whether to read on.
local function serve()
  local most = 2 * max + TURNS
  local wanted = (most - claimed) / 2
  local found = call('ZRANGE', ACTIVE, 0, wanted - 1)
  local count = #found
  if count == 0 then return false end
  for n = 1, count do owners[n] = string.sub(found[n], 3) end
  flows.load(owners, count)
  local queue = {}
  for n = 1, count do queue[n] = candidate(n, found[n], tenants[owners[n]]) end
  local unserved, all_read = count, count < wanted
  local share = math.ceil(wanted / count)
  if share > 1 or lane_free then peek(candidates, count, share) end
  local first = 1
  while first <= #queue and claimed < most and (lane_free or owner.is_open(lane))
    and (all_read or unserved > 0) do
    local f = queue[first]
    local t = f.tenant
    if not f.served then
      f.served = true
      unserved = unserved - 1
    end
    if t[READY + f.class] > 0 and (f.free or owner.is_open(t)) then
      serve_flow(f, queue[first + 1], share, unserved == 0 and not all_read)
    end
    if t[READY + f.class] > 0 and (f.free or owner.is_open(t)) then
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
  lane_free = lane[RULES][FREE]
  while owner.is_open(lane) and serve() do end
  -- From the last to the first: a small set is searched from its front for the place of each, and ids
  -- grow with time.
  local count, until_then = 0, string.format('%d', now + lease_ms)
  for n = begun_count, 1, -1 do
    leases[count + 1], leases[count + 2] = until_then, begun[n]
    count = count + 2
  end
  bulk('ZADD', LEASES, leases, 2, count)
end

functions.step = function(given)
  args, now_packed = given, struct.pack('<d', now)
  max, claimed, begun_count = tonumber(args[2]), TURNS, 0
  reply = { settle_all(), -1, now_packed, {} }
  ends.promote()
  jobs.flush()
  flows.place()
  begin_attempts(tonumber(args[3]))
  commit('open')

  -- In how long there may be work without a wake-up.
  local at = lane[SOONEST]
  if lane[OFFERS] > 0 then at = math.min(at, owner.open_at(lane) or NEVER) end
  if at < NEVER then reply[LOOK_AGAIN] = math.max(0, math.ceil(at - now)) end
  return reply
end
