//! The registry of worker processes, which belongs to no shard. Usually it has one entry: this process.

use std::collections::BTreeMap;

use causeway_queue::{
    clock::Millis,
    workers::{FORGET_AFTER, MAX_WORKERS, RegisteredWorker, WorkerId, WorkerReport},
};

/// The latest report of each worker, and its time.
#[derive(Debug, Default)]
pub(super) struct Registry(BTreeMap<WorkerId, (Millis, WorkerReport)>);

impl Registry {
    /// Writes the entry of a worker process; `false` if the registry is full.
    pub(super) fn beat(&mut self, id: &WorkerId, report: &WorkerReport, now: Millis) -> bool {
        // Only a new worker needs room.
        if !self.0.contains_key(id) {
            self.0.retain(|_, (at, _)| now.since(*at) < FORGET_AFTER);
            if self.0.len() >= MAX_WORKERS {
                return false;
            }
        }
        self.0.insert(id.clone(), (now, report.clone()));
        true
    }

    /// Removes the entry of a worker process.
    pub(super) fn remove(&mut self, id: &WorkerId) {
        self.0.remove(id);
    }

    /// Returns the entries, in the order of their ids.
    pub(super) fn list(&self, now: Millis) -> Vec<RegisteredWorker> {
        let entry = |(id, (beat_at, report)): (&WorkerId, &(Millis, WorkerReport))| {
            let (id, beat_at, silent_for) = (id.clone(), *beat_at, now.since(*beat_at));
            RegisteredWorker { id, beat_at, silent_for, report: report.clone() }
        };
        self.0.iter().map(entry).filter(|worker| worker.silent_for < FORGET_AFTER).collect()
    }
}
