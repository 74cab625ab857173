-- Imports a conversation from another shard, unless its session has one here.
-- Arguments: 2: tenant; 3: session; 4: profile; 5: when it expires, in ms; then its turns as JSON.
-- Returns 1.
functions.import_conversation = function(args)
  local talk = args[2] .. ':' .. args[3]
  local expires = call('ZSCORE', key('talks', args[2]), args[3])
  if expires and tonumber(expires) > now then return 1 end
  call('DEL', key('turns', talk))
  jobs.keep_talk(args[2], args[3], args[5])
  call('SET', key('profile', talk), args[4], 'PXAT', args[5])
  if #args > 5 then
    call('RPUSH', key('turns', talk), unpack(args, 6))
    call('PEXPIREAT', key('turns', talk), args[5])
  end
  return 1
end
