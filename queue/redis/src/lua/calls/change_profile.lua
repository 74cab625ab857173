-- Changes the profile of a conversation, or creates the conversation, if its profile is the one that the caller knows.
-- Arguments: 2: tenant; 3: session; 4: the known profile, '' when there is no such conversation; 5: the new one;
--   6: TTL ms.
-- Returns 1, or 0 when its profile is another.
functions.change_profile = function(args)
  local talk, expires = args[2] .. ':' .. args[3], call('ZSCORE', key('talks', args[2]), args[3])
  local is_there = expires and tonumber(expires) > now
  local profile = is_there and call('GET', key('profile', talk)) or ''
  if profile ~= args[4] then return 0 end
  jobs.renew_talk(args[2], args[3], args[5], tonumber(args[6]))
  return 1
end
