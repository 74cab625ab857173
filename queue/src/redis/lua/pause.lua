-- Stops or lets go on the claims of the shard or of one tenant.
-- ARGV: 2: tenant, '' for the shard; 3: 1 to stop, 0 to go on.
-- Returns 1.
flows.load({})
if ARGV[2] == '' then
  lane[PAUSED] = tonumber(ARGV[3])
else
  flows.touch(ARGV[2])[PAUSED] = tonumber(ARGV[3])
end
commit()
return 1
