-- Replaces the directory.
-- Arguments: 2: the version that it must have, '0' if there must be none; 3: its new version; 4: its new text.
-- Returns 1, or 0 if it has another version.
functions.set_directory = function(args)
  local directory = P .. 'directory'
  if (call('HGET', directory, 'version') or '0') ~= args[2] then return 0 end
  call('HSET', directory, 'version', args[3], 'text', args[4])
  return 1
end
