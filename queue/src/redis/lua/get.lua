-- Reads jobs.
-- Arguments, from 2: job ids.
-- Returns, a job: nil when there is none, else { record (without its body unless it has ended),
--   errors, position or -1, what it waits for: w worker, t tenant, l lane, d upstream; estimated wait in ms or -1 }.
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
        if not owner.is_open(t) then waiting = 't' elseif lane[HEALTH] >= DOWN then waiting = 'd'
        elseif not owner.is_open(lane) then waiting = 'l' end
        wait = estimated_wait(t, j.class, position, j.cost)
      end
      local errors = jobs.has(j, FLAG.errors) and call('LRANGE', key('errors', id), 0, -1) or {}
      local record = string.sub(j.raw, 1, j.spec_end + jobs.out_len(j))
      answer = { record, errors, position, waiting, wait }
    end
    answers[#answers + 1] = answer
  end
  return answers
end
