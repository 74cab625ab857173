-- Sets anew what belongs to one call: the first that every function does.
local function begin(prefix, at)
  if prefix ~= P then
    P = prefix
    TENANTS, ACTIVE, PARKED, DUE, DEADLINES = P .. 'tenants', P .. 'active', P .. 'parked', P .. 'due', P .. 'deadlines'
    LEASES, CANCELS, DEAD, OUTBOX = P .. 'leases', P .. 'cancels', P .. 'dead', P .. 'outbox'
    NEWS, WAKE, JOB, EVENTS = P .. 'news', P .. 'wake', P .. 'job:', P .. 'events:'
    LISTS, READIES = P .. 'jobs:', P .. 'ready:'
    READY_OF = { [0] = READIES .. '0:', READIES .. '1:', READIES .. '2:' }
    NEW_RULES = sub(P, 1, 13) == 'cw:{webhooks:' and DELIVERY_RULES or PLAIN_RULES
  end
  now = tonumber(at)
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  -- A call that failed leaves arrays that are not clean.
  if changes > 0 or used > MOST_SPARE then spares = {} end
  news, lane, forget_at, tenants, known, some_ruled = {}, nil, nil, {}, {}, NEW_RULES ~= PLAIN_RULES
  used, touches, changes, added, arrivals = 0, 0, 0, 0, 0
end

-- What the files that follow fill, each with what it is named for; called with the arguments.
local functions = {}
