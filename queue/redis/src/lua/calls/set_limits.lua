-- Sets the bounds of the lane and of tenants. Those that were configured before and are not named keep what
-- they have: until nothing of them is left, or where none is named, as by a process that knows of none.
-- Arguments: 2: the lane packed as '<dddd' (most running, most queued, requests and tokens per minute; -1 for
--   no bound); then 2 a tenant: name; bounds packed as '<ddddd' (weight, then as the lane).
-- Returns 1. From then on there is the key `bounded`.
functions.set_limits = function(args)
  local names = {}
  for i = 3, #args, 2 do names[#names + 1] = args[i] end
  local former = #names > 0 and call('SMEMBERS', P .. 'configured') or {}
  flows.load(names, #names)
  flows.load(former, #former)
  for _, name in ipairs(former) do
    flows.change(tenants[name])
    owner.change_rules(tenants[name], function(r) r[CONFIGURED] = 0 end)
  end

  -- What was charged stays charged: a debt of so many requests or tokens is paid at the new rate.
  local function at_rate(tat, before, after)
    if before <= 0 or after <= 0 then return 0 end
    return tat > now and now + (tat - now) * before / after or tat
  end

  local function set(o, max_running, max_queued, rpm, tpm)
    local before = o[RULES]
    o[REQUESTS_TAT] = at_rate(o[REQUESTS_TAT], before[RPM], rpm)
    o[TOKENS_TAT] = at_rate(o[TOKENS_TAT], before[TPM], tpm)
    owner.change_rules(o, function(r) r[MAX_RUNNING], r[MAX_QUEUED], r[RPM], r[TPM] = max_running, max_queued, rpm, tpm end)
  end

  set(lane, struct.unpack('<dddd', args[2]))
  -- Leaves `active` under the old weight, so that the sum of weights stays right.
  for i = 3, #args, 2 do
    local name, t = args[i], flows.touch_named(args[i])
    local w, max_running, max_queued, rpm, tpm = struct.unpack('<ddddd', args[i + 1])
    if NEW_RULES ~= PLAIN_RULES then max_running, max_queued, rpm, tpm = DELIVERIES, DELIVERIES_QUEUED, -1, -1 end
    for class = 0, 2 do
      if t[OFFERED + class] == 1 then
        flows.withdraw(t, class)
        call('ZREM', ACTIVE, class .. ':' .. name)
      end
    end
    set(t, max_running, max_queued, rpm, tpm)
    local before = t[RULES][WEIGHT]
    owner.change_rules(t, function(r) r[WEIGHT], r[CONFIGURED] = w, 1 end)
    -- What runs was charged at the weight of then, and is settled at that of now.
    for class = 0, 2 do
      local unsettled, weight = t[UNSETTLED + class], flows.weight(t, class)
      if w ~= before then
        t[TAG + class] = t[TAG + class] + (unsettled / weight - unsettled / (CLASS_WEIGHT[class] * before))
      end
    end
    if max_running < 0 then t[ATTEMPT_MS] = 0 end
    flows.place()
  end

  if #names > 0 then call('DEL', P .. 'configured') end
  call('SET', P .. 'bounded', '1')
  bulk('SADD', P .. 'configured', names, 1)
  commit()
  return 1
end
