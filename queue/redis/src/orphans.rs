//! Orphans: a sorted set of job keys for each call, by the time at which each expires.

use std::time::Duration;

use redis::Value;

use super::{keys, record, reply, server::Server};
use causeway_queue::{
    clock::millis,
    error::Error,
    id::{JobId, Shard},
    orphan::{CallKey, MAX_ORPHANS},
};

pub(super) async fn put(
    server: &Server,
    call: &CallKey,
    job: &JobId,
    ttl: Duration,
) -> Result<(), Error> {
    let (ttl, most) = (millis(ttl).max(1).to_string(), MAX_ORPHANS.to_string());
    let args = [keys::call(call), job.key(), ttl, most];
    server.call(job.shard(), &server.scripts.put_orphan, args).await.map(drop)
}

pub(super) async fn take(
    server: &Server,
    shard: &Shard,
    call: &CallKey,
) -> Result<Option<JobId>, Error> {
    match server.call(shard, &server.scripts.take_orphan, [keys::call(call)]).await? {
        Value::Nil => Ok(None),
        Value::BulkString(key) => record::job_id(shard, &reply::text(key)?).map(Some),
        other => Err(Error::Corrupt(format!("take_orphan returned {other:?}"))),
    }
}

pub(super) async fn remove(server: &Server, call: &CallKey, job: &JobId) -> Result<bool, Error> {
    let mut command = redis::cmd("ZREM");
    command.arg(keys::orphans(job.shard(), call)).arg(job.key());
    let removed: u64 = server.ask(&command).await?;
    Ok(removed > 0)
}
