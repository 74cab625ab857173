-- Reads the registry of worker processes, see calls/worker_heartbeat.lua.
-- Returns { the time, { id, entry, id, entry … } }.
functions.list_workers = function()
  return { now, call('HGETALL', P .. 'workers') }
end
