-- Takes one from a bucket; see Rate::take in limits.rs.
-- ARGV: 2: bucket; 3: how many it holds; 4: in how many ms an empty one fills.
-- Returns { the bucket's TAT as it was, now }: the caller computes the same from it.
local bucket, limit, window = P .. 'bucket:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local interval = window / limit
local tat = tonumber(call('GET', bucket) or '0')
local base = math.max(tat, now)
if base - now <= window - interval then
  call('SET', bucket, string.format('%.17g', base + interval), 'PX', math.ceil(base + interval - now))
end
return { string.format('%.17g', tat), string.format('%d', now) }
