//! The registry of worker processes: one hash, which belongs to no shard.

use redis::Value;

use super::{
    keys,
    reply::{Reply, json},
    server::Server,
};
use causeway_queue::{
    clock::Millis,
    error::Error,
    workers::{FORGET_AFTER, RegisteredWorker, WorkerId, WorkerReport},
};

/// Writes the entry of a worker process; `false` if the registry is full.
pub(super) async fn beat(
    server: &Server,
    id: &WorkerId,
    report: &WorkerReport,
) -> Result<bool, Error> {
    let report =
        serde_json::to_string(report).map_err(|error| Error::Corrupt(error.to_string()))?;
    let (script, args) = (&server.scripts.worker_heartbeat, [id.as_str(), report.as_str()]);
    let command = server.command_at(keys::FLEET, script, args);
    let answer = server.call_with(&command).await?;
    Ok(answer == Value::Int(1))
}

/// Removes the entry of a worker process.
pub(super) async fn remove(server: &Server, id: &WorkerId) -> Result<(), Error> {
    let mut command = redis::cmd("HDEL");
    command.arg(format!("{}workers", keys::FLEET)).arg(id.as_str());
    let _removed: i64 = server.ask(&command).await?;
    Ok(())
}

/// Returns the entries, in the order of their ids.
pub(super) async fn list(server: &Server) -> Result<Vec<RegisteredWorker>, Error> {
    let nothing: [&str; 0] = [];
    let command = server.command_at(keys::FLEET, &server.scripts.list_workers, nothing);
    let answer = server.view_with(&command).await?;
    let mut reply = Reply::new(answer)?;
    let now = Millis(reply.count()?.unwrap_or(0));
    let mut entries = reply.array()?;
    let mut workers = Vec::with_capacity(entries.len() / 2);
    while entries.len() > 0 {
        let (id, entry) = (WorkerId::stored(entries.text()?), entries.text()?);
        // An entry is the time of the report, a space, and the report as JSON.
        let (at, report) = entry.split_once(' ').unwrap_or_default();
        let beat_at = at.parse().map(Millis);
        let beat_at = beat_at.map_err(|_| Error::Corrupt("a worker's entry".to_owned()))?;
        let report: WorkerReport = json(report.as_bytes())?;
        workers.push(RegisteredWorker { id, beat_at, silent_for: now.since(beat_at), report });
    }
    workers.retain(|worker| worker.silent_for < FORGET_AFTER);
    workers.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(workers)
}
