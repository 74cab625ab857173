-- Forgets a conversation.
-- ARGV: 2: tenant; 3: session.
-- Returns 1, or 0 when there was none.
local talk = ARGV[2] .. ':' .. ARGV[3]
local expires = call('ZSCORE', key('talks', ARGV[2]), ARGV[3])
call('ZREM', key('talks', ARGV[2]), ARGV[3])
call('DEL', key('profile', talk), key('turns', talk))
return (expires and tonumber(expires) > now) and 1 or 0
