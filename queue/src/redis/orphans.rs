//! Orphans: a list of job keys for each call, which expires as a whole.

use std::time::Duration;

use super::{Server, keys, record};
use crate::{
    clock::millis,
    error::Error,
    id::{JobId, Shard},
    orphan::{CallKey, MAX_ORPHANS},
};

/// Appends ARGV[1] to the list KEYS[1] unless it is there, keeps its last ARGV[2], and lets it live for ARGV[3] ms:
/// in one call, as a list without an expiry would stay for ever.
const PUT: &str = "
if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('RPUSH', KEYS[1], ARGV[1]) end
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
";

pub(super) async fn put(
    server: &Server,
    call: &CallKey,
    job: &JobId,
    ttl: Duration,
) -> Result<(), Error> {
    let mut command = redis::cmd("EVAL");
    command.arg(PUT).arg(1).arg(keys::orphans(job.shard(), call));
    command.arg(job.key()).arg(MAX_ORPHANS).arg(millis(ttl).max(1));
    server.ask(&command).await
}

pub(super) async fn take(
    server: &Server,
    shard: &Shard,
    call: &CallKey,
) -> Result<Option<JobId>, Error> {
    let mut command = redis::cmd("LPOP");
    command.arg(keys::orphans(shard, call));
    let key: Option<String> = server.ask(&command).await?;
    key.map(|key| record::job_id(shard, &key)).transpose()
}

pub(super) async fn remove(server: &Server, call: &CallKey, job: &JobId) -> Result<bool, Error> {
    let mut command = redis::cmd("LREM");
    command.arg(keys::orphans(job.shard(), call)).arg(1).arg(job.key());
    let removed: u64 = server.ask(&command).await?;
    Ok(removed > 0)
}
