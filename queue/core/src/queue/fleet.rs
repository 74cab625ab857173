//! The workers that serve the lanes, and the effect of their absence on waiting jobs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Fleet, Queue};
use crate::{backend::Stats, error::Error, id::LaneName, job::Job, workers::RegisteredWorker};

/// The time for which a view of the registry is reused. Together with [`LIVE_FOR`](crate::workers::LIVE_FOR) it
/// bounds the time for which a lost worker counts as live.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The longest wait for the registry where it only adds a detail to an answer.
const PATIENCE: Duration = Duration::from_secs(1);

impl Fleet {
    /// Returns true if the view may be reused for `lane`. A missing worker is always looked up again, because it may
    /// just have started.
    fn is_usable(&self, lane: &LaneName) -> bool {
        let is_served = |workers: &Arc<[RegisteredWorker]>| workers.iter().any(|w| w.serves(lane));
        self.read_at.elapsed() < FRESH_FOR && self.workers.as_ref().is_none_or(is_served)
    }
}

impl Queue {
    /// Returns all entries of the registry of workers, lost ones too, in the order of their start.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error> {
        self.backend.workers().await
    }

    /// Returns the number of live workers that serve `lane`; `None` if the registry does not answer within a second.
    pub async fn workers_of(&self, lane: &LaneName) -> Option<usize> {
        // Held during the read, so that concurrent callers share one.
        let mut fleet = self.fleet.lock().await;
        if !fleet.as_ref().is_some_and(|fleet| fleet.is_usable(lane)) {
            let read = timeout(PATIENCE, self.backend.workers()).await;
            let workers = read.ok().and_then(Result::ok).map(Into::into);
            // A failed read is kept too, so a store that does not answer is not called for each request.
            *fleet = Some(Fleet { read_at: Instant::now(), workers });
        }
        let workers = fleet.as_ref()?.workers.as_ref()?;
        Some(workers.iter().filter(|worker| worker.serves(lane)).count())
    }

    async fn is_unserved(&self, lane: &LaneName) -> bool {
        self.workers_of(lane).await == Some(0)
    }

    /// Changes the reason of each waiting job if no live worker serves its lane.
    pub(super) async fn add_workers(&self, jobs: impl Iterator<Item = &mut Job>) {
        let mut lanes: HashMap<LaneName, bool> = HashMap::new();
        for job in jobs.filter(|job| job.state.is_waiting()) {
            let lane = &job.id.shard().lane;
            // One lookup for each lane, not for each job.
            let is_unserved = match lanes.get(lane) {
                Some(known) => *known,
                None => *lanes.entry(lane.clone()).or_insert(self.is_unserved(lane).await),
            };
            if is_unserved {
                job.state.lose_workers();
            }
        }
    }

    /// Changes the reason in a lane's counts if no live worker serves it.
    pub(super) async fn add_workers_to(&self, stats: &mut Stats, lane: &LaneName) {
        if self.is_unserved(lane).await {
            stats.waiting_for = std::mem::take(&mut stats.waiting_for).without_worker();
            stats.estimated_wait_ms = None;
        }
    }
}
