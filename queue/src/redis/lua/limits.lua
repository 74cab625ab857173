-- Sets the bounds of the lane and of tenants; those that were configured before and are not named get
-- the default.
-- Arguments: 2: the lane packed as '<dddd' (most running, most queued, requests and tokens per minute; -1 for
--   no bound); then 2 a tenant: name; bounds packed as '<ddddd' (weight, then as the lane).
-- Returns 1. From then on there is the key `bounded`.
functions.limits = function(args)
  local names, named, dropped = {}, {}, {}
  for i = 3, #args, 2 do names[#names + 1], named[args[i]] = args[i], true end
  for _, name in ipairs(call('SMEMBERS', P .. 'configured')) do
    if not named[name] then dropped[#dropped + 1] = name end
  end
  flows.load(names, #names)
  flows.load(dropped, #dropped)
  owner.change_rules(lane, function(r) r[MAX_RUNNING], r[MAX_QUEUED], r[RPM], r[TPM] = struct.unpack('<dddd', args[2]) end)

  -- Leaves `active` under the old weight, so that the sum of weights stays right.
  local function set_one(name, w, max_running, max_queued, rpm, tpm, is_configured)
    local t = flows.touch_named(name)
    for class = 0, 2 do
      if t[OFFERED + class] == 1 then
        flows.withdraw(t, class)
        call('ZREM', ACTIVE, class .. ':' .. name)
      end
    end
    owner.change_rules(t, function(r)
      r[WEIGHT], r[MAX_RUNNING], r[MAX_QUEUED], r[RPM], r[TPM], r[CONFIGURED] =
        w, max_running, max_queued, rpm, tpm, is_configured
    end)
    if max_running < 0 then t[ATTEMPT_MS] = 0 end
    flows.place()
  end

  for _, name in ipairs(dropped) do set_one(name, 1, -1, -1, -1, -1, 0) end
  call('DEL', P .. 'configured')
  for i = 3, #args, 2 do
    local w, max_running, max_queued, rpm, tpm = struct.unpack('<ddddd', args[i + 1])
    set_one(args[i], w, max_running, max_queued, rpm, tpm, 1)
  end
  call('SET', P .. 'bounded', '1')
  bulk('SADD', P .. 'configured', names, 1)
  commit()
  return 1
end
