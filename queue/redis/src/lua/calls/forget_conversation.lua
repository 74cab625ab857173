-- Forgets a conversation.
-- Arguments: 2: tenant; 3: session.
-- Returns 1, or 0 when there was none.
functions.forget_conversation = function(args)
  local talk = args[2] .. ':' .. args[3]
  local expires = call('ZSCORE', key('talks', args[2]), args[3])
  call('ZREM', key('talks', args[2]), args[3])
  call('DEL', key('profile', talk), key('turns', talk))
  return (expires and tonumber(expires) > now) and 1 or 0
end
