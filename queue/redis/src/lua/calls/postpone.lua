-- Has ends wait in the outbox.
-- Arguments: 2: for how many ms; then 2 an end: its member as ends.finish writes it; the same with the time of
--   the end in hexadecimal behind it, which is the member of an end that was postponed.
-- Returns 1. An end that is not there any more stays away.
functions.postpone = function(args)
  local due = string.format('%d', now + args[2])
  for i = 3, #args, 2 do
    if call('ZREM', OUTBOX, args[i], args[i + 1]) > 0 then call('ZADD', OUTBOX, due, args[i + 1]) end
  end
  return 1
end
