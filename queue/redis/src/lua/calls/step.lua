-- Ends attempts, then begins new ones.
-- Arguments: 2: how many to begin at most; 3: lease in ms; 4: until when its caller waits for the answer, ''
--   where that is not known; 5: the numbers of the settlements, each packed as '<c1dddd'; then a settlement:
--   2 of a job without flags, session and deadline that succeeded: lease member; its record as it shall
--   be. Numbers: S, or T when the one before is such and of the same tenant; prompt tokens or -1,
--   completion tokens, its cost, 0;
--   5 of another: lease member; output JSON; turn JSON; error JSON; data of the `retrying` event; '' for what
--   does not apply. Numbers: the outcome (s f c x the end; r retry; l u v w d failed, see health.charge; b
--   handed back); prompt tokens or -1; completion tokens; delay in ms; last, with l the lane's wait in ms,
--   with u v w d the random part of a cool-down, else the count of turns to keep.
-- Returns { settled, look again, now, turns, id, record, … }: `settled` has a letter a settlement: 0 lease not
--   held, 1 done, 2 done and the lane waits for a named time, 3 done and it cools down, 4 done and it is open
--   again, 5 done and the job has failed; `look again` is ms or -1, never later than there may be work; `now` is
--   packed as in a record; `turns` has, for each job that remembers, its number among those begun and a
--   list, and is nil when no job does; each job that was begun is its id and its record as it was before.

-- The arguments; the packed numbers of the settlements, and their length in bytes for one.
local args, numbers
local NUMBERS_BYTES <const> = 33
local PLAIN, SAME = byte('S'), byte('T')
-- Results of settlements that changed the lane's health, or ended a job by its failure.
local LANE_WAITS <const>, LANE_DOWN <const>, LANE_UP <const>, FAILED <const> = '2', '3', '4', '5'

local function remember(j, turn, keep)
  local talk = j.tenant .. ':' .. j.session
  local expires = call('ZSCORE', key('talks', j.tenant), j.session)
  if expires and tonumber(expires) > now then
    -- LTRIM has no range for none.
    if keep == 0 then return call('DEL', key('turns', talk)) end
    local length = call('RPUSH', key('turns', talk), turn)
    if length > keep then call('LTRIM', key('turns', talk), -keep, -1) end
    if length == 1 then call('PEXPIREAT', key('turns', talk), expires) end
  end
end

-- The lease members that came, their tenants, and how each attempt went; the arrays are used again by
-- the next call.
local members, names, hows = {}, {}, {}
-- The letters of settlements that changed how the lane is, by their numbers.
local came_to

-- Ends a run of jobs of one tenant that have nothing but their records, which have come along, as far as
-- their leases are held (`letters`: nil when all are). The first is the n-th settlement, which begins at
-- argument i. Answers where the next one is, and how many were held.
local function settle_run(n, i, letters, forgotten_at)
  local t, held, told = tenants[names[n]], 0, #news
  local capped, is_well = t[RULES][MAX_RUNNING] >= 0, lane[HEALTH] == WELL
  flows.change(t)
  repeat
    if not letters or letters[n] == '1' then
      local id, class = sub(members[n], 1, ID_BYTES), byte(members[n], CLASS_AT) - 48
      local prompt, completion, cost = unpack_numbers('<ddd', numbers, NUMBERS_BYTES * n - (NUMBERS_BYTES - 2))
      ends.discharge(t, class, cost)
      if prompt >= 0 then
        lane[MEAN] = lane[MEAN] + (completion - lane[MEAN]) * LEARNING_RATE
        ends.settle_cost(t, class, prompt + completion - cost)
      end
      if capped then ends.learn_duration(t, (unpack_numbers('<d', args[i + 1], STARTED_AT))) end
      if not is_well then came_to[n] = health.succeeded(members[n]) and LANE_UP or nil end
      if lane[CANCELLING] > 0 then ends.forget_cancel(id) end
      call('SET', JOB .. id, args[i + 1], 'PXAT', forgotten_at)
      news[told + 1], news[told + 2], news[told + 3] = 'E', id, 's'
      held, told = held + 1, told + 3
    end
    n, i = n + 1, i + 2
  until hows[n] ~= SAME
  if is_well then lane[SUCCESSES] = lane[SUCCESSES] + held end
  if held > 0 then ends.release(t, held) end
  return n, i, held
end

-- How an attempt went whose failure is charged to its job or to the lane.
local FAULTS = { l = true, u = true, v = true, w = true, d = true }

-- `more`: l: how long the lane waits, in ms; others: the random part of a cool-down. Answers the letter of
-- what it came to, nil for done.
local function settle_fault(j, m, i, how, delay, more)
  local probe_at = lane[HEALTH] >= DOWN and lane[PROBE_AT]
  local is_charged, at, stops = health.charge(j, m, how, delay, more)
  if lane[HEALTH] >= DOWN then call('HSET', P .. 'health', 'error', args[i + 3]) end
  if is_charged and j.attempts >= jobs.max_attempts(j) then
    ends.finish(j, 'f', args[i + 1])
    return FAILED
  end
  local letter = lane[HEALTH] == DOWN and lane[PROBE_AT] ~= probe_at and LANE_DOWN or nil
  if probe_at and lane[HEALTH] < DOWN then letter = LANE_UP end
  if not is_charged then
    j.attempts = j.attempts - 1
    if stops and now + stops > lane[RULES][NOT_BEFORE] then
      letter = letter or LANE_WAITS
      owner.change_rules(lane, function(r) r[NOT_BEFORE] = now + stops end)
    end
  end
  ends.remember_error(j, args[i + 3], is_charged and 'job' or 'lane')
  ends.put_back(j, at, 'R', args[i + 4])
  return letter
end

-- Answers as settle_fault does.
local function settle(n, i)
  local m, t = members[n], tenants[names[n]]
  local j = known[sub(m, 1, ID_BYTES)]
  local how, prompt, completion, delay, keep =
    unpack_numbers('<c1dddd', numbers, NUMBERS_BYTES * n - (NUMBERS_BYTES - 1))
  local difference = 0
  if j and prompt >= 0 then
    difference = prompt + completion - j.cost
  elseif j and (FAULTS[how] or how == 'b') then
    difference = -j.cost
  end
  local class = byte(m, CLASS_AT) - 48
  flows.change(t)
  ends.discharge(t, class, j and j.cost or 0)
  ends.release(t, 1)
  ends.settle_cost(t, class, difference)
  if not j then return end
  -- A failed attempt says nothing of how long an attempt lasts.
  if t[RULES][MAX_RUNNING] >= 0 and not FAULTS[how] and how ~= 'b' then ends.learn_duration(t, j.started) end
  if how == 's' and prompt >= 0 then lane[MEAN] = lane[MEAN] + (completion - lane[MEAN]) * LEARNING_RATE end
  if (how == 'r' or FAULTS[how] or how == 'b') and jobs.has(j, FLAG.cancelling) then how = 'c' end
  local letter = nil
  if how == 's' then letter = health.succeeded(m) and LANE_UP or nil elseif not FAULTS[how] then health.ended(m) end
  if how == 's' and j.session and args[i + 2] ~= '' then remember(j, args[i + 2], keep) end
  if how == 'r' then
    ends.remember_error(j, args[i + 3], 'job')
    ends.put_back(j, now + delay, 'R', args[i + 4])
  elseif FAULTS[how] then
    return settle_fault(j, m, i, how, delay, keep)
  elseif how == 'b' then
    j.attempts = j.attempts - 1
    ends.put_back(j, now + delay, 'Q', 'null')
  else
    -- A fault of a job that was to be cancelled brought an output along.
    ends.finish(j, how, how == 'c' and '' or args[i + 1])
  end
  return letter
end

-- Which of so many leases were held, a letter each, as nothing has changed yet in the records: a job runs,
-- in this very epoch, as long as its lease is held.
local function held_of(count)
  local letters, seen, keys = {}, {}, {}
  for n = 1, count do keys[n] = JOB .. string.sub(members[n], 1, ID_BYTES) end
  local raws = call('MGET', unpack(keys))
  for n = 1, count do
    local m = members[n]
    local j = jobs.parse(string.sub(m, 1, ID_BYTES), raws[n])
    local held = j and not seen[m] and j.state == 'r' and string.format('%08x', j.epoch) == string.sub(m, EPOCH_AT, EPOCH_END)
    seen[m], letters[n] = true, held and '1' or '0'
  end
  return letters
end

-- Settles what is still held: a lease is given up by whoever takes it out of `leases`. Answers `settled`
-- of the reply.
local function settle_all()
  local to_read, count, i = {}, #numbers / NUMBERS_BYTES, 6
  for n = 1, count do
    local m, how = args[i], byte(numbers, NUMBERS_BYTES * n - (NUMBERS_BYTES - 1))
    members[n], hows[n] = m, how
    if how == SAME then names[n] = names[n - 1] else names[n] = sub(m, TENANT_AT) end
    if how == PLAIN or how == SAME then
      i = i + 2
    else
      i = i + 5
      to_read[#to_read + 1] = JOB .. sub(m, 1, ID_BYTES)
    end
  end
  hows[count + 1] = false
  -- Nearly always all were held, each once.
  local letters
  if count > 0 and call('ZREM', LEASES, unpack(members, 1, count)) < count then
    letters = held_of(count)
  end
  flows.load(names, count)
  -- Records that need a look are all read before one is settled: the end of one may move another.
  local raws = #to_read > 0 and call('MGET', unpack(to_read))
  for n, name in ipairs(to_read) do jobs.parse(sub(name, -ID_BYTES), raws[n]) end

  came_to = {}
  local n, plain, forgotten_at = 1, 0, count > 0 and ends.forget_at()
  i = 6
  while n <= count do
    if hows[n] == PLAIN then
      local held
      n, i, held = settle_run(n, i, letters, forgotten_at)
      plain = plain + held
    else
      if plain > 0 then ends.count(plain) end
      plain = 0
      if not letters or letters[n] == '1' then came_to[n] = settle(n, i) end
      n, i = n + 1, i + 5
    end
  end
  if plain > 0 then ends.count(plain) end
  if not letters and next(came_to) == nil then return string.rep('1', count) end
  for other = 1, count do came_to[other] = came_to[other] or (letters and letters[other] or '1') end
  return table.concat(came_to)
end

functions.step = function(given)
  args, numbers, now_packed, max, claimed = given, given[5], pack('<d', now), tonumber(given[2]), TURNS
  -- What a server that stood still executes so late would be begun for nobody.
  if given[4] ~= '' and now > tonumber(given[4]) then max = 0 end
  most = TURNS + 2 * max
  reply = { settle_all(), -1, now_packed, false }
  ends.promote()
  jobs.flush()
  flows.place()
  begin_attempts(tonumber(args[3]))
  commit('open')

  -- In how long there may be work without a wake-up.
  local at = lane[SOONEST]
  if lane[OFFERS] > 0 then at = math.min(at, flows.lane_open_at() or NEVER) end
  if at < NEVER then reply[LOOK_AGAIN] = math.max(0, math.ceil(at - now)) end
  return reply
end
