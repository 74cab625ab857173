-- The directory, unless the caller knows it.
-- Arguments: 2: the version that the caller knows.
-- Returns nil if it is that; else { version, text }, which are '0' and '' if there is none.
functions.get_directory = function(args)
  local found = call('HMGET', P .. 'directory', 'version', 'text')
  local version = found[1] or '0'
  return version ~= args[2] and { version, found[2] or '' }
end
