-- What every script begins with.
--
-- ARGV[1] is '', or the time in milliseconds where a test sets the clock.
-- KEYS[1] is the prefix of the shard, `cw:{lane:shard}:`. Every key is made from it, so that all of
-- them share one hash slot.
local P, call = KEYS[1], redis.call
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function key(kind, name) return P .. kind .. ':' .. name end

-- Runs a command with many arguments, in pieces that fit Lua's stack. `name`: nil for none.
local function bulk(command, name, args, width)
  local count, step = #args, 1000 * width
  if name and count > 0 and count <= step then return call(command, name, unpack(args)) end
  for first = 1, count, step do
    local last = math.min(first + step - 1, count)
    if name then call(command, name, unpack(args, first, last)) else call(command, unpack(args, first, last)) end
  end
end

-- News for the processes that listen, published once at the end: see redis/news.rs.
local news = {}
local function publish()
  if #news > 0 then call('PUBLISH', P .. 'news', table.concat(news)) end
end

-- Appends to a job's event log, and tells it. What is told is joined only once, at the end: every
-- text that Lua makes is copied and hashed.
local EVENTS = P .. 'events:'
local function append_event(id, kind, data)
  local entry = call('XADD', EVENTS .. id, '1-*', 'k', kind, 'd', data)
  local count = #news
  news[count + 1] = 'V' .. id .. kind .. struct.pack('>I4I4', tonumber(string.sub(entry, 3)), #data)
  news[count + 2] = data
end
