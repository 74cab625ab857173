-- Takes one from each of these buckets; see Rate::take in limits.rs.
-- Arguments, from 2, 3 a bucket: name; how many it holds; in how many ms an empty one fills.
-- Returns { now, TAT, … }: the time, and the TAT of each bucket as it was: the caller computes the same
--   from it.
functions.throttle = function(args)
  local answers = { string.format('%d', now) }
  for i = 2, #args, 3 do
    local bucket, limit, window = P .. 'bucket:' .. args[i], tonumber(args[i + 1]), tonumber(args[i + 2])
    local interval = window / limit
    local tat = call('GET', bucket) or '0'
    local base = math.max(tonumber(tat), now)
    if base - now <= window - interval then
      call('SET', bucket, string.format('%.17g', base + interval), 'PX',
        math.ceil(base + interval - now))
    end
    answers[#answers + 1] = tat
  end
  return answers
end
