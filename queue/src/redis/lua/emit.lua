-- Appends to the event logs of running jobs that keep theirs.
-- Arguments, from 2, 3 an emission: lease member; kind; data.
-- Returns a letter an emission: 1 appended, 0 lease not held.
functions.emit = function(args)
  local members, answer = {}, {}
  for i = 2, #args, 3 do members[#members + 1] = args[i] end
  if #members == 0 then return '' end
  local held = call('ZMSCORE', LEASES, unpack(members))
  for n, m in ipairs(members) do
    local i = 2 + (n - 1) * 3
    if held[n] then append_event(string.sub(m, 1, 26), args[i + 1], args[i + 2]) end
    answer[n] = held[n] and '1' or '0'
  end
  publish()
  return table.concat(answer)
end
