-- Recounts what is derivable, repairs it, and forgets what nobody needs.
-- ARGV: 2: cursor of the scan over tenants, '0' to begin.
-- Returns { next cursor, repaired counts of running, of ready jobs, of offers }.
local repaired = { running = 0, ready = 0, offers = 0 }
if ARGV[2] == '0' then
  promote()
  call('ZREMRANGEBYSCORE', DEAD, '-inf', now - RETENTION)
end
for _, name in ipairs(call('ZRANGEBYSCORE', PARKED, '-inf', now)) do touch(name) end
flush_ready()
place_touched()

local running, total = {}, 0
for _, m in ipairs(call('ZRANGE', LEASES, 0, -1)) do
  local name = string.match(m, '|%d:(.*)$')
  running[name] = (running[name] or 0) + 1
  total = total + 1
end
if lane.running ~= total then
  lane.running = total
  repaired.running = repaired.running + 1
end

local scan = call('HSCAN', TENANTS, ARGV[2], 'COUNT', 500)
for n = 1, #scan[2], 2 do
  local name = scan[2][n]
  local t = touch(name)
  if t.running ~= (running[name] or 0) then
    t.running = running[name] or 0
    repaired.running = repaired.running + 1
  end
  local before = t.offered
  for class = 0, 2 do
    local ready = call('ZCARD', key('ready', class .. ':' .. name))
    if t.ready[class] ~= ready then
      t.ready[class] = ready
      repaired.ready = repaired.ready + 1
    end
    local stands = call('ZSCORE', ACTIVE, class .. ':' .. name)
    if offers(t, class) ~= (stands and true or false) then
      repaired.offers = repaired.offers + 1
      t.offered = t.offered + (stands and BIT[class] or -BIT[class])
      lane.weight = lane.weight + (stands and weight(t, class) or -weight(t, class))
    end
  end
  place_touched()
  if t.offered ~= before then repaired.offers = repaired.offers + 1 end
  local list = key('jobs', name)
  for _ = 1, 1000 do
    local id = call('LINDEX', list, 0)
    if not id or call('EXISTS', key('job', id)) == 1 then break end
    call('LPOP', list)
  end
  local busy = t.configured == 1 or t.paused == 1 or t.running > 0 or t.queued > 0
    or math.max(t.tag[0], t.tag[1], t.tag[2]) > lane.vtime
    or t.requests_tat > now or t.tokens_tat > now or call('EXISTS', list) == 1
  if not busy then
    t.forget = true
    call('HDEL', TENANTS, name)
  end
end
local kept = {}
for _, t in ipairs(changed) do
  if not t.forget then kept[#kept + 1] = t end
end
changed = kept
commit(nil)
return { scan[1], repaired.running, repaired.ready, repaired.offers }
