-- Reads remembered conversations.
-- Arguments: 2: tenant; 3: session, '' for all.
-- Returns, a conversation: { session, profile, expires at in ms, turn, … }.
functions.conversations = function(args)
  local talks = key('talks', args[2])
  local found, answers = {}, {}
  if args[3] == '' then
    call('ZREMRANGEBYSCORE', talks, '-inf', now)
    found = call('ZREVRANGE', talks, 0, -1, 'WITHSCORES')
  else
    local expires = call('ZSCORE', talks, args[3])
    if expires and tonumber(expires) > now then found = { args[3], expires } end
  end
  for n = 1, #found, 2 do
    local talk = args[2] .. ':' .. found[n]
    local profile = call('GET', key('profile', talk))
    if profile then
      local turns = call('LRANGE', key('turns', talk), 0, -1)
      answers[#answers + 1] = { found[n], profile, found[n + 1], unpack(turns) }
    end
  end
  return answers
end
