-- Begins nothing for so long: an upstream asked the whole lane to wait, by an attempt in another shard.
-- Arguments: 2: ms.
-- Returns 1.
functions.cool_down = function(args)
  flows.load()
  owner.change_rules(lane, function(r) r[NOT_BEFORE] = math.max(r[NOT_BEFORE], now + tonumber(args[2])) end)
  commit('open')
  return 1
end
