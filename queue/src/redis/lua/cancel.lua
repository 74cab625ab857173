-- Ends a job: at once while it waits, by its worker while it runs.
-- ARGV: 2: job id; 3: tenant.
-- Returns 1, or 0 when the tenant has no such job.
local j = job(ARGV[2])
if not j or j.tenant ~= ARGV[3] then return 0 end
if j.state == 'r' then
  set(j, FLAG.cancelling, true)
  call('SADD', CANCELS, j.id)
  save(j)
  tell_cancel(j)
  call('PUBLISH', P .. 'news', table.concat(news))
elseif j.state == 'q' or j.state == 'h' or j.state == 'w' then
  withdraw(j)
  finish(j, 'c', '')
  commit(nil)
end
return 1
