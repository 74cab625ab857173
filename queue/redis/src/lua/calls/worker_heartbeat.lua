-- Writes the entry of a worker process into the registry, the hash `workers`, whose prefix belongs to no shard. A field is
-- the id of a process, its value the time and the report, with a space between.
-- Arguments: 2: the id; 3: the report.
-- Returns 1; 0 if the registry is full.
functions.worker_heartbeat = function(args)
  local name = P .. 'workers'
  if call('HEXISTS', name, args[2]) == 0 then
    -- Lost workers leave entries behind, which those that start clear away.
    local all = call('HGETALL', name)
    for n = 1, #all, 2 do
      if tonumber(string.match(all[n + 1], '^%d+')) + FORGET_WORKER <= now then call('HDEL', name, all[n]) end
    end
    if call('HLEN', name) >= MAX_WORKERS then return 0 end
  end
  call('HSET', name, args[2], string.format('%d ', now) .. args[3])
  call('PEXPIRE', name, FORGET_WORKER)
  return 1
end
