-- Reads jobs.
-- ARGV, from 2: job ids.
-- Returns, a job: nil when there is none, else { id, record without its body, output or nil, errors,
--   position or -1, what it waits for: w worker, t tenant, l lane; estimated wait in ms or -1 }.
local answers = {}
for n = 2, #ARGV do
  local id = ARGV[n]
  local j = job(id)
  local answer = false
  if j then
    local last = HEAD_BYTES + j.tenant_len + j.session_len + j.spec_len
    local position, waiting, wait = -1, 'w', -1
    if j.state == 'q' then
      local t = tenant(j.tenant)
      position = call('ZRANK', key('ready', flow(j)), id) or -1
      if not is_open(t) then waiting = 't' elseif not is_open(lane) then waiting = 'l' end
      if lane.drain_per_s > 0 then
        local turns = (position + 1) * math.max(lane.weight / weight(t, j.class), 1)
        wait = math.floor(math.min(turns, lane.queued) * 1000 / lane.drain_per_s)
      end
    end
    local ended = j.state == 's' or j.state == 'f' or j.state == 'c' or j.state == 'x'
    local out = ended and call('GET', key('out', id))
    local errors = has(j, FLAG.errors) and call('LRANGE', key('errors', id), 0, -1) or {}
    answer = { id, string.sub(j.raw, 1, last), out, errors, position, waiting, wait }
  end
  answers[#answers + 1] = answer
end
return answers
