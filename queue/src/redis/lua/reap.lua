-- Takes expired leases back.
-- ARGV: 2: the error of a lost worker as JSON, with `"attempt":0` where the attempt goes; 3: the data
--   of its `retrying` event.
-- Returns { requeued, ended }: two lists of job ids.
local requeued, ended = {}, {}
for _, m in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, AT_ONCE)) do
  call('ZREM', LEASES, m)
  local class, name = string.match(m, '^[^|]*|%d+|(%d):(.*)$')
  release(name, tonumber(class), 0)
  local j = job(string.sub(m, 1, 26))
  if j then
    local attempt = '"attempt":' .. string.format('%d', j.attempts)
    local err = string.gsub(ARGV[2], '"attempt":0', attempt, 1)
    j.stalls, j.attempts = j.stalls + 1, j.attempts - 1
    remember_error(j, err)
    if has(j, FLAG.cancelling) then
      finish(j, 'c', '')
    elseif j.stalls >= MAX_STALLS then
      finish(j, 'f', '{"error":' .. err .. '}')
    else
      put_back(j, now, 'R', ARGV[3])
    end
    local list = (j.state == 'q' or j.state == 'w') and requeued or ended
    list[#list + 1] = j.id
  end
end
promote()
commit(nil)
return { requeued, ended }
