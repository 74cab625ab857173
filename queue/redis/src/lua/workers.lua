-- Reads the registry of worker processes, see beat_worker.lua.
-- Returns { the time, { id, entry, id, entry … } }.
functions.workers = function()
  return { now, call('HGETALL', P .. 'workers') }
end
