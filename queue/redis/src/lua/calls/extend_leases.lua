-- Extends leases.
-- Arguments: 2: lease in ms; 3…: lease members.
-- Returns a letter a lease: 1 extended, 0 not held, c extended and its job shall end.
functions.extend_leases = function(args)
  local members, extended, ids, answer = {}, {}, {}, {}
  for i = 3, #args do members[#members + 1] = args[i] end
  if #members == 0 then return '' end
  local held = call('ZMSCORE', LEASES, unpack(members))
  for n, m in ipairs(members) do
    if held[n] then
      extended[#extended + 1] = now + tonumber(args[2])
      extended[#extended + 1] = m
    end
    ids[n] = string.sub(m, 1, ID_BYTES)
    answer[n] = held[n] and '1' or '0'
  end
  bulk('ZADD', LEASES, extended, 2)
  if call('EXISTS', CANCELS) == 1 then
    for n, cancelled in ipairs(call('SMISMEMBER', CANCELS, unpack(ids))) do
      if cancelled == 1 and held[n] then answer[n] = 'c' end
    end
  end
  return table.concat(answer)
end
