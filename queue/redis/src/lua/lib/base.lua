-- The ground on which the functions stand, one a file. All of this folder is one library, see
-- redis/scripts.rs: it is run once by a server, and the closures made then serve every call. What
-- belongs to one call stands in locals that `begin`, in lib/begin.lua, sets anew.
--
-- A call has one key, the prefix of the shard, `cw:{lane:shard}:`. All keys are made from it, so that
-- they share one hash slot. Its first argument is '', or the time in milliseconds where a test sets the
-- clock.
local string, math, table, struct, bit, call = string, math, table, struct, bit, redis.call
local sub, byte, format, pack, unpack_numbers = string.sub, string.byte, string.format, struct.pack, struct.unpack
local P, now

-- The keys that have one name in a shard.
local TENANTS, ACTIVE, PARKED, DUE, DEADLINES, LEASES, CANCELS, DEAD, OUTBOX, NEWS, WAKE
-- What the names of others begin with: the record and the events of a job, the list of a tenant's
-- jobs, the ready set of a flow.
local JOB, EVENTS, LISTS, READIES

local function key(kind, name) return P .. kind .. ':' .. name end

-- Runs a command with many arguments, in pieces that fit Lua's stack. `name`: nil for none; `count`: how
-- many they are, nil for all.
local function bulk(command, name, args, width, count)
  count = count or #args
  if count == 0 then return end
  local step = 1000 * width
  if name and count <= step then return call(command, name, unpack(args, 1, count)) end
  for first = 1, count, step do
    local last = math.min(first + step - 1, count)
    if name then call(command, name, unpack(args, first, last)) else call(command, unpack(args, first, last)) end
  end
end

-- News for the processes that listen, published once at the end: see redis/news.rs.
local news
local function publish()
  if #news > 0 then call('PUBLISH', NEWS, table.concat(news)) end
end

-- Appends to a job's event log, and tells it. What is told is joined only once, at the end: every
-- text that Lua makes is copied and hashed.
-- `mark`: what stands behind the kind, nil for nothing.
local function append_event(id, kind, data, mark)
  local entry = call('XADD', EVENTS .. id, '1-*', 'k', mark and kind .. mark or kind, 'd', data)
  local count = #news
  news[count + 1] = 'V' .. id .. kind .. struct.pack('>I4I4', tonumber(string.sub(entry, 3)), #data)
  news[count + 2] = data
end
