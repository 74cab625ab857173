-- Looks for what must never be. For tests: it reads the whole shard.
-- Arguments, from 2: all job ids that were ever accepted.
-- Returns what was found, as text; changes nothing.
functions.audit = function(args)
  local found = {}
  local function check(ok, what) if not ok then found[#found + 1] = what end end

  flows.load()
  local ready, scheduled, queued, running, unsettled = {}, {}, {}, {}, {}
  local function add(counts, name, more) counts[name] = (counts[name] or 0) + (more or 1) end
  local totals = { queued = 0, running = 0, due = 0, cancelling = 0, faulted = 0 }
  for n = 2, #args do
    local id = args[n]
    local j = jobs.get(id)
    if j then
      local places = ''
      local order = call('ZSCORE', jobs.ready_set(j), id)
      if order then places = places .. 'q' end
      if call('ZSCORE', DUE, id) then places = places .. 'w' end
      if call('ZSCORE', LEASES, jobs.member(j.id, j.epoch, jobs.flow(j))) then places = places .. 'r' end
      local waits = j.state == 'q' or j.state == 'h' or j.state == 'w'
      local live = waits or j.state == 'r'
      if j.state == 'q' or j.state == 'w' or j.state == 'r' then
        check(places == j.state, id .. ' is ' .. j.state .. ' and stands in ' .. places)
      else
        check(places == '', id .. ' is ' .. j.state .. ' and stands in ' .. places)
      end
      check(not order or tonumber(order) == j.order, id .. ' lost its order')
      check(call('TTL', JOB .. id) < 0 == live, id .. ' has the wrong TTL in ' .. j.state)
      if j.session then
        local first = call('LINDEX', jobs.session_key(j), 0)
        local stands = call('LPOS', jobs.session_key(j), id)
        check((stands ~= false) == live, id .. ' is ' .. j.state .. ' and its session disagrees')
        check(not live or (first == id) == (j.state ~= 'h'), id .. ' is out of its session\'s order')
      else
        check(j.state ~= 'h', id .. ' is held by nothing')
      end
      if live and jobs.has(j, FLAG.faulted) then
        totals.faulted = totals.faulted + 1
        check(call('HEXISTS', P .. 'faults', id) == 1, id .. ' lost its fault')
      end
      if waits then add(queued, j.tenant) totals.queued = totals.queued + 1 end
      if j.state == 'q' then add(ready, jobs.flow(j)) end
      if jobs.has(j, FLAG.cancelling) then totals.cancelling = totals.cancelling + 1 end
      if j.state == 'w' then add(scheduled, j.tenant) totals.due = totals.due + 1 end
      if j.state == 'r' then
        add(running, j.tenant)
        add(unsettled, jobs.flow(j), j.cost)
        totals.running = totals.running + 1
      end
    end
  end
  local known = call('HMGET', P .. 'health', 'cool_downs', 'probe')
  check((lane[HEALTH] >= DOWN) == (known[1] ~= false), 'the lane does not know whether it is down')
  check((lane[HEALTH] == PROBED) == (known[2] ~= false), 'the lane does not know whether it is probed')
  check(not known[2] or call('ZSCORE', LEASES, known[2]), 'the probe is no lease')
  check(lane[HEALTH] ~= WELL or call('EXISTS', P .. 'health') == 0, 'a lane that is well remembers failures')
  check(call('HLEN', P .. 'faults') == totals.faulted, 'faults holds strangers')
  check(call('ZCARD', DUE) == totals.due, 'due holds strangers')
  check(call('ZCARD', LEASES) == totals.running, 'leases hold strangers')
  check(call('SCARD', CANCELS) == totals.cancelling, 'cancels holds strangers')
  check(lane[CANCELLING] == totals.cancelling, 'the lane counts ' .. lane[CANCELLING] .. ' cancels')
  check(lane[QUEUED] == totals.queued, 'the lane counts ' .. lane[QUEUED] .. ' waiting, not ' .. totals.queued)
  check(lane[RUNNING] == totals.running, 'the lane counts ' .. lane[RUNNING] .. ' running, not ' .. totals.running)

  local offered, weights, parked = 0, 0, 0
  local all = call('HKEYS', TENANTS)
  local function check_tenant(t)
    local name = t[NAME]
    check(t[QUEUED] == (queued[name] or 0), name .. ' counts ' .. t[QUEUED] .. ' waiting')
    check(t[RUNNING] == (running[name] or 0), name .. ' counts ' .. t[RUNNING] .. ' running')
    check(t[SCHEDULED] == (scheduled[name] or 0), name .. ' counts ' .. t[SCHEDULED] .. ' scheduled')
    local at = owner.open_at(t)
    local is_parked = call('ZSCORE', PARKED, name)
    for class = 0, 2 do
      local f = class .. ':' .. name
      local score = call('ZSCORE', ACTIVE, f)
      check(t[READY + class] == (ready[f] or 0), f .. ' counts ' .. t[READY + class] .. ' ready')
      check(call('ZCARD', READIES .. f) == t[READY + class], f .. ' has strangers in its ready set')
      check(t[UNSETTLED + class] == (unsettled[f] or 0), f .. ' takes ' .. t[UNSETTLED + class] .. ' for unsettled')
      check(not score or (t[READY + class] > 0 and at), f .. ' is offered and cannot be served')
      check(score or t[READY + class] == 0 or not at or is_parked, f .. ' can be served and is not offered')
      check(not score or tonumber(score) == t[TAG + class], f .. ' is offered under an old tag')
      check((score and 1 or 0) == t[OFFERED + class], f .. ' does not know where it stands')
      if score then
        offered = offered + 1
        weights = weights + flows.weight(t, class)
      end
    end
    if is_parked then parked = parked + 1 end
    check(not is_parked or (at and t[OFFERED] + t[OFFERED + 1] + t[OFFERED + 2] == 0), name .. ' is parked for nothing')
  end
  for n = 1, #all do
    if all[n] ~= '' then check_tenant(flows.tenant(all[n])) end
  end
  check(lane[OFFERS] == offered, 'the lane counts ' .. lane[OFFERS] .. ' offers, not ' .. offered)
  for _, set in ipairs({ DUE, DEADLINES, PARKED }) do
    local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')
    check(not first[2] or tonumber(first[2]) >= lane[SOONEST], set .. ' comes before the lane expects it')
  end
  check(call('ZCARD', ACTIVE) == offered, 'active holds strangers')
  check(call('ZCARD', PARKED) == parked, 'parked holds strangers')
  check(math.abs(lane[WEIGHTS] - weights) < 1e-6, 'the sum of weights is ' .. lane[WEIGHTS] .. ', not ' .. weights)
  found[#found + 1] = string.format('vtime %.17g', lane[VTIME])
  return found
end
