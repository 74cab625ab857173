-- Takes expired leases back.
-- Arguments: 2: the error of a lost worker as JSON, with `"attempt":0` where the attempt goes; 3: the data
--   of its `retrying` event.
-- Returns { requeued, ended }: two lists of job ids.
functions.reap = function(args)
  flows.load()
  local requeued, ended = {}, {}
  for _, m in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, AT_ONCE)) do
    call('ZREM', LEASES, m)
    local t, j = flows.tenant(string.sub(m, TENANT_AT)), jobs.get(string.sub(m, 1, ID_BYTES))
    flows.change(t)
    if j then ends.discharge(t, byte(m, CLASS_AT) - 48, j.cost) end
    ends.release(t, 1)
    health.ended(m)
    if j then
      local attempt = '"attempt":' .. string.format('%d', j.attempts)
      local err = string.gsub(args[2], '"attempt":0', attempt, 1)
      j.stalls, j.attempts = j.stalls + 1, j.attempts - 1
      ends.remember_error(j, err, 'worker')
      if jobs.has(j, FLAG.cancelling) then
        ends.finish(j, 'c', '')
      elseif j.stalls >= MAX_STALLS then
        ends.finish(j, 'f', '{"error":' .. err .. '}')
      else
        ends.put_back(j, now, 'R', args[3])
      end
      local list = (j.state == 'q' or j.state == 'w') and requeued or ended
      list[#list + 1] = j.id
    end
  end
  ends.promote()
  commit()
  return { requeued, ended }
end
