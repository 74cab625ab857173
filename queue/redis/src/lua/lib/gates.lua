-- What keeps jobs from starting: the facts from which queue/src/waiting.rs chooses one. Only views call this.

-- Of the lane or of a tenant: { paused, at its cap, when its rates permit the next attempt or -1 }.
local function gate(o)
  local r, at = o[RULES], owner.rates_permit_at(o)
  local is_at_cap = r[MAX_RUNNING] >= 0 and o[RUNNING] >= r[MAX_RUNNING]
  return { r[PAUSED], is_at_cap and 1 or 0, at > now and math.ceil(at) or -1 }
end

-- Of the lane; then until when its upstream refuses requests, since when it is down, when it is probed next, each or -1;
-- its latest error.
local function lane_gate()
  local found, refused_until = gate(lane), lane[RULES][NOT_BEFORE]
  found[4], found[5], found[6], found[7] = refused_until > now and refused_until or -1, -1, -1, ''
  if lane[HEALTH] >= DOWN then
    local known = call('HMGET', P .. 'health', 'since', 'error')
    found[5], found[6], found[7] = tonumber(known[1] or now), lane[PROBE_AT], known[2] or ''
  end
  return found
end
