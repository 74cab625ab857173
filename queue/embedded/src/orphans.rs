//! The orphans of one shard, in memory.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use causeway_queue::{
    clock::Millis,
    id::JobId,
    orphan::{CallKey, MAX_ORPHANS},
};

/// The number of kept calls at which expired ones are deleted.
const CROWDED: usize = 1000;

/// The orphans of each call, by the time at which each expires.
#[derive(Debug, Default)]
pub(super) struct OrphanTable {
    calls: HashMap<CallKey, BTreeSet<(Millis, JobId)>>,
    /// The number of calls that were left after the last deletion of expired ones.
    kept: usize,
}

impl OrphanTable {
    pub(super) fn put(&mut self, call: &CallKey, job: &JobId, ttl: Duration, now: Millis) {
        // The threshold doubles, so that the scan costs O(1) per call on average.
        if self.calls.len() >= 2 * self.kept + CROWDED {
            self.calls.retain(|_, jobs| jobs.last().is_some_and(|(until, _)| *until > now));
            self.kept = self.calls.len();
        }
        let jobs = self.calls.entry(call.clone()).or_default();
        jobs.retain(|(_, orphan)| orphan != job);
        jobs.insert((now.after(ttl), job.clone()));
        // The orphan that expires first makes room.
        if jobs.len() > MAX_ORPHANS {
            jobs.pop_first();
        }
    }

    pub(super) fn take(&mut self, call: &CallKey, now: Millis) -> Option<JobId> {
        let jobs = self.calls.get_mut(call)?;
        jobs.retain(|(until, _)| *until > now);
        let job = jobs.pop_first();
        self.forget_empty(call);
        job.map(|(_, job)| job)
    }

    pub(super) fn remove(&mut self, call: &CallKey, job: &JobId) -> bool {
        let Some(jobs) = self.calls.get_mut(call) else { return false };
        let before = jobs.len();
        jobs.retain(|(_, orphan)| orphan != job);
        let removed = jobs.len() < before;
        self.forget_empty(call);
        removed
    }

    fn forget_empty(&mut self, call: &CallKey) {
        if self.calls.get(call).is_some_and(BTreeSet::is_empty) {
            self.calls.remove(call);
        }
    }
}
