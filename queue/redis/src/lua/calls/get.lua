-- Reads jobs.
-- Arguments, from 2: job ids.
-- Returns what keeps the lane's jobs from starting, see lib/gates.lua; then, a job: nil when there is none, else { record
--   (without its body unless it has ended), errors, position or -1, estimated wait in ms or -1, what keeps the jobs of its
--   tenant from starting if it waits }.
functions.get = function(args)
  flows.load()
  local answers = { lane_gate() }
  for n = 2, #args do
    local id = args[n]
    local j = jobs.get(id)
    local answer = false
    if j then
      local position, wait, gates = -1, -1, {}
      if j.state == 'q' or j.state == 'h' or j.state == 'w' then
        local t = flows.tenant(j.tenant)
        gates = gate(t)
        if j.state == 'q' then
          position = call('ZRANK', jobs.ready_set(j), id) or -1
          wait = estimated_wait(t, j.class, position, j.cost)
        end
      end
      local errors = jobs.has(j, FLAG.errors) and call('LRANGE', key('errors', id), 0, -1) or {}
      local record = string.sub(j.raw, 1, j.spec_end + jobs.out_len(j))
      answer = { record, errors, position, wait, gates }
    end
    answers[#answers + 1] = answer
  end
  return answers
end
