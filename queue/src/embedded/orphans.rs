//! Orphans of one shard, in memory.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Millis,
    id::JobId,
    orphan::{CallKey, MAX_ORPHANS},
};

/// From how many kept calls on the expired ones are forgotten.
const CROWDED: usize = 1000;

/// The orphans of each call, oldest first, and when all of them are forgotten.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    calls: HashMap<CallKey, (VecDeque<JobId>, Millis)>,
    /// How many calls were left when expired ones were forgotten last.
    kept: usize,
}

impl Orphans {
    pub(super) fn put(&mut self, call: &CallKey, job: &JobId, ttl: Duration, now: Millis) {
        if self.calls.len() >= 2 * self.kept + CROWDED {
            self.calls.retain(|_, (_, until)| *until > now);
            self.kept = self.calls.len();
        }
        let (jobs, until) = self.calls.entry(call.clone()).or_default();
        if *until <= now {
            jobs.clear();
        }
        if !jobs.contains(job) {
            jobs.push_back(job.clone());
        }
        if jobs.len() > MAX_ORPHANS {
            jobs.pop_front();
        }
        *until = now.after(ttl);
    }

    pub(super) fn take(&mut self, call: &CallKey, now: Millis) -> Option<JobId> {
        let jobs = self.living(call, now)?;
        let job = jobs.pop_front();
        self.forget_empty(call);
        job
    }

    pub(super) fn remove(&mut self, call: &CallKey, job: &JobId, now: Millis) -> bool {
        let Some(jobs) = self.living(call, now) else { return false };
        let found = jobs.iter().position(|orphan| orphan == job);
        let removed = found.and_then(|place| jobs.remove(place)).is_some();
        self.forget_empty(call);
        removed
    }

    fn living(&mut self, call: &CallKey, now: Millis) -> Option<&mut VecDeque<JobId>> {
        self.calls.get_mut(call).filter(|(_, until)| *until > now).map(|(jobs, _)| jobs)
    }

    fn forget_empty(&mut self, call: &CallKey) {
        if self.calls.get(call).is_some_and(|(jobs, _)| jobs.is_empty()) {
            self.calls.remove(call);
        }
    }
}
