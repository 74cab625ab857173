-- Lists a tenant's jobs, newest first.
-- Arguments: 2: tenant; 3: states, '' for all; 4: class, '' for all; 5: session, '' for all; 6: how many at
--   most; 7: id to go on after, '' to begin; 8: 1 when that id belongs to this shard.
-- Returns { 'ok', more, id, … }: `more` is '' at the end, else the id to go on after; at most 2,000
--   entries are looked at; { 'unknown' } when the id to go on after is not in the list.
functions.list = function(args)
  local list, limit, after = LISTS .. args[2], tonumber(args[6]), args[7]
  local last = call('LLEN', list) - 1
  if after ~= '' and args[8] == '1' then
    local place = call('LPOS', list, after, 'RANK', -1)
    if not place then return { 'unknown' } end
    last = place - 1
  elseif after ~= '' then
    local low, high = 0, last + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if call('LINDEX', list, middle) < after then low = middle + 1 else high = middle end
    end
    last = low - 1
  end
  if last < 0 then return { 'ok', '' } end
  local found, first = { 'ok', '' }, math.max(0, last - 1999)
  local ids = call('LRANGE', list, first, last)
  for n = #ids, 1, -1 do
    local raw = call('GETRANGE', JOB .. ids[n], 0, HEAD_BYTES + 64 + 255)
    local j = raw ~= '' and jobs.parse(ids[n], raw)
    if j and (args[3] == '' or string.find(args[3], j.state, 1, true))
      and (args[4] == '' or tonumber(args[4]) == j.class)
      and (args[5] == '' or args[5] == j.session) then
      if #found - 2 == limit then
        found[2] = found[#found]
        return found
      end
      found[#found + 1] = ids[n]
    end
  end
  if first > 0 then found[2] = ids[1] end
  return found
end
