-- Reads jobs.
-- Arguments, from 2: job ids.
-- Returns, a job: nil when there is none, else { record (without its body unless it has ended),
--   errors, position or -1, what it waits for: w worker, t tenant, l lane; estimated wait in ms or -1 }.
functions.get = function(args)
  flows.load()
  local answers = {}
  for n = 2, #args do
    local id = args[n]
    local j = jobs.get(id)
    local answer = false
    if j then
      local position, waiting, wait = -1, 'w', -1
      if j.state == 'q' then
        local t = flows.tenant(j.tenant)
        position = call('ZRANK', jobs.ready_set(j), id) or -1
        if not owner.is_open(t) then waiting = 't' elseif not owner.is_open(lane) then waiting = 'l' end
        if lane[DRAIN_PER_S] > 0 then
          local turns = (position + 1) * math.max(lane[WEIGHTS] / flows.weight(t, j.class), 1)
          wait = math.floor(math.min(turns, lane[QUEUED]) * 1000 / lane[DRAIN_PER_S])
        end
      end
      local errors = jobs.has(j, FLAG.errors) and call('LRANGE', key('errors', id), 0, -1) or {}
      local record = string.sub(j.raw, 1, j.spec_end + jobs.out_len(j))
      answer = { record, errors, position, waiting, wait }
    end
    answers[#answers + 1] = answer
  end
  return answers
end
