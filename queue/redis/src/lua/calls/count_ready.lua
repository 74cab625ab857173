-- Counts ready jobs by class, a part of the tenants at a time.
-- Arguments: 2: where to go on, '0' to begin.
-- Returns { where to go on, interactive, standard, batch }: '0' at the end.
functions.count_ready = function(args)
  local part, counts = call('HSCAN', TENANTS, args[2], 'COUNT', 1000), { 0, 0, 0 }
  local entries = part[2]
  for n = 1, #entries, 2 do
    local packed = entries[n + 1]
    local kind, _, _, _, ready = unpack_numbers(SHORT, packed)
    if entries[n] == '' then
      -- The lane itself.
    elseif kind == WHOLE then
      local all = { unpack_numbers(WHOLE_FORMAT, packed) }
      -- Its kind stands before what stands in the array of a tenant.
      for class = 0, 2 do counts[class + 1] = counts[class + 1] + all[READY + class + 1] end
    else
      local class = kind % BUSY
      counts[class + 1] = counts[class + 1] + ready
    end
  end
  return { part[1], counts[1], counts[2], counts[3] }
end
