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
--   list, and is nil when no job does; each job that was begun is its id and its record as it was before.

-- What the call is told.
local args
local PLAIN = byte('S')

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
local function settle_plain(m, t, i, forgotten_at)
  local prompt, completion, cost = unpack_numbers('<ddd', args[i + 1], 2)
  local id, count = sub(m, 1, 26), #news
  local difference = 0
  if prompt >= 0 then
    difference = prompt + completion - cost
    lane[MEAN] = lane[MEAN] + (completion - lane[MEAN]) * 0.0625
  end
  ends.release(t, m, difference)
  if lane[CANCELLING] > 0 then ends.forget_cancel(id) end
  call('SET', JOB .. id, args[i + 2], 'PXAT', forgotten_at)
  news[count + 1], news[count + 2], news[count + 3] = 'E', id, 's'
end

local function settle(m, t, j, i)
  local how, prompt, completion, delay, keep = struct.unpack('<c1dddd', args[i + 1])
  local difference = 0
  if j and prompt >= 0 then
    difference = prompt + completion - j.cost
  elseif j and (how == 'l' or how == 'b') then
    difference = -j.cost
  end
  ends.release(t, m, difference)
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
  local to_read, count, i, last = {}, 0, 4, #args
  while i <= last do
    local m = args[i]
    count = count + 1
    members[count], names[count] = m, sub(m, 37)
    if byte(args[i + 1]) == PLAIN then
      i = i + 3
    else
      i = i + 6
      to_read[#to_read + 1] = JOB .. sub(m, 1, 26)
    end
  end
  -- Nearly always all were held, each once.
  local letters
  if count > 0 and call('ZREM', LEASES, unpack(members, 1, count)) < count then
    letters = held_of({ unpack(members, 1, count) })
  end
  flows.load(names, count)
  -- Records that need a look are all read before one is settled: the end of one may move another.
  local raws = #to_read > 0 and call('MGET', unpack(to_read))
  for n, name in ipairs(to_read) do jobs.parse(sub(name, -26), raws[n]) end

  local forgotten_at, plain, all_plain = count > 0 and ends.forget_at(), 0, #to_read == 0
  i = 4
  for n = 1, count do
    local m, held = args[i], not letters or letters[n] == '1'
    if all_plain or byte(args[i + 1]) == PLAIN then
      if held then
        settle_plain(m, tenants[names[n]], i, forgotten_at)
        plain = plain + 1
      end
      i = i + 3
    else
      if plain > 0 then ends.count(plain) end
      plain = 0
      if held then settle(m, tenants[names[n]], known[sub(m, 1, 26)], i) end
      i = i + 6
    end
  end
  if plain > 0 then ends.count(plain) end
  return letters and table.concat(letters) or string.rep('1', count)
end

functions.step = function(given)
  args, now_packed, max, claimed = given, pack('<d', now), tonumber(given[2]), TURNS
  most = TURNS + 2 * max
  reply = { settle_all(), -1, now_packed, false }
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
