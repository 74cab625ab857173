-- Appends to the event logs of running jobs.
-- Arguments, from 2, 3 an emission: lease member; its kind, its number among those of the attempt, and '+'
--   when it may have been appended before; data.
-- Returns a letter an emission: 1 appended, now or before, 0 lease not held.

-- Whether the log ends with an emission of that attempt, of that number or a later one.
local function is_there(id, epoch, number)
  local last = call('XREVRANGE', EVENTS .. id, '+', '-', 'COUNT', '1')[1]
  local mark = last and last[2][2] or ''
  return sub(mark, 2, 9) == epoch and tonumber(sub(mark, 10)) >= number
end

functions.emit = function(args)
  local members, answer = {}, {}
  for i = 2, #args, 3 do members[#members + 1] = args[i] end
  if #members == 0 then return '' end
  local held = call('ZMSCORE', LEASES, unpack(members))
  for n, m in ipairs(members) do
    local i = 2 + (n - 1) * 3
    local id, epoch, kind, number, repeated = sub(m, 1, ID_BYTES), sub(m, EPOCH_AT, EPOCH_END), string.match(args[i + 1], '^(.)(%d+)(%+?)$')
    if held[n] and not (repeated == '+' and is_there(id, epoch, tonumber(number))) then
      append_event(id, kind, args[i + 2], epoch .. number)
    end
    answer[n] = held[n] and '1' or '0'
  end
  publish()
  return table.concat(answer)
end
