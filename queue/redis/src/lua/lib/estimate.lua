-- In how long a waiting job should begin: see embedded/flows/estimate.rs, which holds the same numbers.

-- The drain rate for estimates; 0 while nothing is measured or the measure is outdated: see Drain in
-- embedded/flows/owners.rs.
local function current_drain_per_s()
  local last, rate = lane[DRAIN_LAST], lane[DRAIN_PER_S]
  local gaps = lane[RUNNING] > 0 and DRAIN_GAPS * 1000 / rate or 0
  local is_outdated = last > 0 and now - last > math.max(DRAIN_OUTDATED, gaps)
  return is_outdated and 0 or rate
end

-- In how long the rates of an owner let an attempt begin behind so many others of that cost.
local function wait_for_rates(o, before, cost)
  local r = o[RULES]
  local wait = r[NOT_BEFORE] - now
  if r[RPM] > 0 then
    wait = math.max(wait, math.max(o[REQUESTS_TAT] - now, 0) - INTERVAL + (before + 1) * INTERVAL / r[RPM])
  end
  if r[TPM] > 0 then
    wait = math.max(wait, math.max(o[TOKENS_TAT] - now, 0) - INTERVAL + 1 + before * cost * INTERVAL / r[TPM])
  end
  return wait
end

-- In how many milliseconds a job of that class and cost should begin that has so many jobs of its flow
-- before it; -1 while nothing was measured of late, while it is paused and while the lane is down.
local function estimated_wait(t, class, ahead, cost)
  local is_closed, rate = lane[RULES][PAUSED] == 1 or lane[HEALTH] >= DOWN, current_drain_per_s()
  if rate <= 0 or is_closed or t[RULES][PAUSED] == 1 then return -1 end
  local weight, weights, own = flows.weight(t, class), lane[WEIGHTS], ahead + 1
  if t[OFFERED + class] == 0 then weights = weights + weight end
  local turns = math.min((ahead + 1) * (weights / weight), lane[QUEUED])
  for other = 0, 2 do
    if other ~= class then
      own = own + math.min((ahead + 1) * (flows.weight(t, other) / weight), t[READY + other])
    end
  end
  local wait = math.max(turns * 1000 / rate,
    wait_for_rates(t, own - 1, cost), wait_for_rates(lane, math.max(turns - 1, 0), cost))
  local cap = t[RULES][MAX_RUNNING]
  if cap > 0 then
    wait = math.max(wait, (own - math.max(cap - t[RUNNING], 0)) * t[ATTEMPT_MS] / cap)
  end
  return math.floor(math.min(wait, NEVER))
end

-- What a call answers that has no room for so many new jobs beside those that wait: of the lane, or of a
-- tenant, whose jobs may begin later than those of others.
local STANDARD <const> = 1
local function full(scope, limit, waiting, new, t)
  local excess, rate, wait = waiting + new - limit, current_drain_per_s(), -1
  if t then
    wait = estimated_wait(t, STANDARD, excess - 1, lane[MEAN])
  elseif rate > 0 and lane[RULES][PAUSED] == 0 and lane[HEALTH] < DOWN then
    wait = math.floor(math.max(excess * 1000 / rate, wait_for_rates(lane, excess - 1, lane[MEAN])))
  end
  return { 'full', scope, limit, waiting, new, wait }
end
