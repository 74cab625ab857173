-- Lists a tenant's jobs, newest first.
-- Arguments: 2: tenant; 3: states, '' for all; 4: class, '' for all; 5: session, '' for all; 6: how many at
--   most; 7: id to go on after, '' to begin; 8: 1 when that id belongs to this shard; 9: the earliest time of
--   acceptance in ms, '' for all; 10: the model as a spec writes it, '' for all; 11: the error code with which
--   the job ended, '' for all; 12: how many entries to look at.
-- Returns { how, last, id, … }: `how` is 'end'; 'full' when more jobs are selected than may be listed; or 'more'
--   when the last entry that was looked at, `last`, is not the last of the list. { 'unknown' } when the id to go
--   on after is not in the list.

-- How far from where its id says an entry is looked for, on both sides.
local NEAR <const> = 1000
-- Longest names of a tenant and a session, and of an endpoint in a spec.
local NAMES_BYTES <const> = 400

-- The place of the first entry that is not older than `id`, by its id.
local function first_from(list, length, id)
  local low, high = 0, length
  while low < high do
    local middle = math.floor((low + high) / 2)
    if call('LINDEX', list, middle) < id then low = middle + 1 else high = middle end
  end
  return low
end

-- Where `id` stands, nil when it is not in the list. Ids are nearly in the order of acceptance. All of the list
-- is searched for a job of this tenant only, so that made-up ids cost little.
local function place_of(list, tenant, id)
  local near = first_from(list, call('LLEN', list), id)
  local first = math.max(0, near - NEAR)
  for n, other in ipairs(call('LRANGE', list, first, near + NEAR)) do
    if other == id then return first + n - 1 end
  end
  local j = jobs.get(id)
  return j and j.tenant == tenant and call('LPOS', list, id, 'RANK', -1) or nil
end

-- Whether a spec, which begins at `at` in a record, names that model. A spec is written as `u`, then `m`.
local function is_of_model(raw, at, model)
  at = at + 1
  if sub(raw, at, at + 4) == '"u":"' then at = (string.find(raw, '",', at + 5, true) or at) + 2 end
  return sub(raw, at, at + #model - 1) == model
end

-- The error code with which a job ended, nil where it did not; see code_of_plain_end in queue/src/job.rs.
-- `own`: the deadline, counted from the acceptance; where its client gave it, the spec says the same as `t`.
-- `spec`, `output`: behind how many bytes of the record they begin; an output begins with the error.
local function error_code(id, state, own, spec, output)
  if state == 'c' then return 'cancelled' end
  if state == 'x' then
    local given = string.format('"t":%d[,}]', own)
    return string.find(call('GETRANGE', JOB .. id, spec, output - 1), given) and 'deadline_exceeded' or 'gave_up'
  end
  if state ~= 'f' then return nil end
  local first = call('GETRANGE', JOB .. id, output, output + 127)
  return string.match(first, '^{"error":{"attempt":%d+,"code":"([^"]*)"')
end

-- Whether a job is selected; nil when it was accepted too early, as all behind it were.
local function is_selected(args, id)
  local raw = call('GETRANGE', JOB .. id, 0, HEAD_BYTES + NAMES_BYTES + #args[10])
  if raw == '' then return false end
  if args[9] ~= '' and unpack_numbers('<d', raw, CREATED_AT) < tonumber(args[9]) then return nil end
  local state = sub(raw, 1, 1)
  if args[3] ~= '' and not string.find(args[3], state, 1, true) then return false end
  if args[4] ~= '' and byte(raw, 3) ~= tonumber(args[4]) then return false end
  if args[5] == '' and args[10] == '' and args[11] == '' then return true end
  local created, deadline, tenant_len, session_len, spec_len = unpack_numbers('<ddBBI4', raw, CREATED_AT)
  local session = HEAD_BYTES + tenant_len + 1
  local spec = session + session_len
  if args[5] ~= '' and sub(raw, session, spec - 1) ~= args[5] then return false end
  if args[10] ~= '' and not is_of_model(raw, spec, args[10]) then return false end
  return args[11] == '' or error_code(id, state, deadline - created, spec - 1, spec - 1 + spec_len) == args[11]
end

functions.list = function(args)
  local list, limit, after = LISTS .. args[2], tonumber(args[6]), args[7]
  local last = call('LLEN', list) - 1
  if after ~= '' and args[8] == '1' then
    local place = place_of(list, args[2], after)
    if not place then return { 'unknown' } end
    last = place - 1
  elseif after ~= '' then
    last = first_from(list, last + 1, after) - 1
  end
  if last < 0 then return { 'end', '' } end
  local found, first = { 'end', '' }, math.max(0, last - tonumber(args[12]) + 1)
  local ids = call('LRANGE', list, first, last)
  for n = #ids, 1, -1 do
    local selected = is_selected(args, ids[n])
    if selected == nil then return found end
    if selected and #found - 2 == limit then
      found[1] = 'full'
      return found
    end
    if selected then found[#found + 1] = ids[n] end
  end
  if first > 0 then found[1], found[2] = 'more', ids[1] end
  return found
end
