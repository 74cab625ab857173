-- The shard in numbers.
-- Arguments: 2: tenant, '' for all.
-- Returns { queued, running, scheduled, dead or -1, oldest wait in ms, drain per second; how many
-- wait of all tenants, and at most; what keeps the lane's jobs from starting, see lib/gates.lua }; for one tenant also what
-- keeps its jobs from starting; its requests per minute or -1, in how many ms all of these are allowed again, the
-- same two of its tokens; its weight, the most that run and that wait, or -1; in how many ms a job of class
-- standard should begin that it would submit now, or -1.
functions.stats = function(args)
  flows.load()
  local heads, t = {}, nil
  if args[2] == '' then
    heads = call('ZRANGE', ACTIVE, 0, 999)
  else
    t = flows.tenant(args[2])
    for class = 0, 2 do
      if t[READY + class] > 0 then heads[#heads + 1] = class .. ':' .. t[NAME] end
    end
  end
  local oldest = 0
  for _, name in ipairs(heads) do
    local id = call('ZRANGE', READIES .. name, 0, 0)[1]
    local j = id and jobs.get(id)
    if j then oldest = math.max(oldest, now - jobs.created(j)) end
  end
  local rate = string.format('%.17g', lane[DRAIN_PER_S])
  if t then
    local function backlog(tat) return string.format('%.17g', math.max(0, tat - now)) end
    local r = t[RULES]
    return { t[QUEUED], t[RUNNING], t[SCHEDULED], -1, oldest, rate, lane[QUEUED], lane[RULES][MAX_QUEUED],
      lane_gate(), gate(t), r[RPM], backlog(t[REQUESTS_TAT]), r[TPM], backlog(t[TOKENS_TAT]), r[WEIGHT], r[MAX_RUNNING],
      r[MAX_QUEUED], estimated_wait(t, STANDARD, t[READY + STANDARD], lane[MEAN]) }
  end
  local dead = call('ZCOUNT', DEAD, '(' .. string.format('%d', now - RETENTION), '+inf')
  return { lane[QUEUED], lane[RUNNING], call('ZCARD', DUE), dead, oldest, rate, lane[QUEUED], lane[RULES][MAX_QUEUED],
    lane_gate() }
end
