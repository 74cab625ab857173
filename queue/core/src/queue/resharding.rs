//! Resharding: a change of the number of shards of a lane.
//!
//! A [`Layout`] is a lane with one number of shards, and the store remembers the layouts that were used. A *former
//! shard* belongs to one of them, but not to the configuration of this process. No job moves: workers serve a
//! former shard until it is empty, and it is forgotten once it has been empty for one retention. A tenant whose home
//! shard has changed keeps its lists, idempotency keys, orphans and conversations, because they are looked up in
//! its former home shards too.
//!
//! A lane's limits are not divided exactly meanwhile: current shards divide them as if there were no former shards, and a
//! former shard takes its share of the larger layout. So a lane stays below twice its limits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::PoisonError,
    time::Duration,
};

use tokio::time::sleep;

use super::Queue;
use crate::{
    error::Error,
    id::{JobId, LaneName, Layout, SessionKey, Shard, TenantId},
    job::NewJob,
    limits::LaneLimits,
    orphan::CallKey,
};

/// Longest pause between two discoveries while there are former shards. A retry in a former shard may wake no worker, so
/// this is its longest delay. A discovery costs one call for each former shard.
const FORMER_INTERVAL: Duration = Duration::from_secs(5);

impl Queue {
    /// Discovers the former shards of the store, and returns those that hold unfinished jobs. Copies the pauses of a
    /// lane to its new shards.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn discover(&self) -> Result<Vec<Shard>, Error> {
        let known = self.backend.layouts().await?;
        let mut used: Vec<Layout> = self.layouts().collect();
        for new in used.iter().filter(|layout| !known.contains(layout)) {
            self.copy_pauses(new, &known).await?;
        }
        let former: Vec<Layout> =
            known.into_iter().filter(|layout| !used.contains(layout)).collect();
        self.former.write().unwrap_or_else(PoisonError::into_inner).clone_from(&former);
        let (shards, mut busy) = (self.former_shards(), Vec::new());
        for shard in &shards {
            let stats = self.backend.stats(shard, None).await?;
            if stats.queued + stats.running > 0 {
                busy.push(shard.clone());
            }
        }
        // A layout without former shards stays: its home shards are in use, and may hold jobs of tenants that moved.
        let is_empty = |layout: &Layout| {
            layout.all().any(|shard| shards.contains(&shard))
                && !layout.all().any(|shard| busy.contains(&shard))
        };
        used.extend(former.into_iter().filter(|layout| !is_empty(layout)));
        self.backend.remember_layouts(&used).await?;
        Ok(busy)
    }

    /// Discovers at once and then every `interval`, but at least every 5 s while there are former shards. Passes the
    /// former shards with unfinished jobs to `found`. Runs until it is dropped.
    pub async fn watch(self, interval: Duration, mut found: impl FnMut(Vec<Shard>)) {
        loop {
            match self.discover().await {
                Ok(shards) => found(shards),
                Err(error) => tracing::debug!(%error, "cannot discover former shards"),
            }
            let longest = if self.former_shards().is_empty() { interval } else { FORMER_INTERVAL };
            sleep(interval.min(longest).max(Duration::from_millis(1))).await;
        }
    }

    /// Pauses in the new shards of a lane what is paused in its first shard. A new shard that was in use long ago may
    /// have pauses that ended elsewhere.
    async fn copy_pauses(&self, layout: &Layout, known: &[Layout]) -> Result<(), Error> {
        let of_lane = known.iter().filter(|known| known.lane == layout.lane);
        let Some(most) = of_lane.map(|known| known.shards).max() else { return Ok(()) };
        let first = Shard { lane: layout.lane.clone(), index: 0 };
        let paused = self.backend.paused(&first).await?;
        for shard in layout.all().skip(most.into()) {
            for tenant in self.backend.paused(&shard).await? {
                self.backend.pause(&shard, tenant.as_ref(), false).await?;
            }
            for tenant in &paused {
                self.backend.pause(&shard, tenant.as_ref(), true).await?;
            }
        }
        Ok(())
    }

    /// Returns the former shards that the latest [discovery](Self::discover) found.
    fn former_shards(&self) -> BTreeSet<Shard> {
        let current = self.shards();
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        former.iter().flat_map(Layout::all).filter(|shard| !current.contains(shard)).collect()
    }

    /// Returns the current shards of all lanes, then the former ones that the latest [discovery](Self::discover) found.
    #[must_use]
    pub fn known_shards(&self) -> Vec<Shard> {
        self.shards().into_iter().chain(self.former_shards()).collect()
    }

    /// Returns each known shard of the lanes with its share of the limits of its lane. Current shards divide the limits;
    /// a former shard takes what it would get in the largest layout of the lane. So a lane stays below twice its limits.
    pub(super) fn shares(
        &self,
        limits: &HashMap<LaneName, LaneLimits>,
    ) -> Vec<(Shard, LaneLimits)> {
        let share = |shard: Shard| {
            let current = self.layouts().find(|layout| layout.lane == shard.lane)?.shards;
            let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
            let of_lane = former.iter().filter(|layout| layout.lane == shard.lane);
            let largest = of_lane.map(|layout| layout.shards).max();
            let shards = largest.filter(|_| shard.index >= current).unwrap_or(current);
            let whole = limits.get(&shard.lane).cloned().unwrap_or_default();
            let share = whole.share(shard.index, shards);
            Some((shard, share))
        };
        self.known_shards().into_iter().filter_map(share).collect()
    }

    /// Returns the former home shards of a tenant in the lane of `home`, its home shard now.
    fn former_home_shards(&self, home: &Shard, tenant: &TenantId) -> BTreeSet<Shard> {
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        let of_lane = former.iter().filter(|layout| layout.lane == home.lane);
        of_lane.map(|layout| layout.home_shard(tenant)).filter(|shard| shard != home).collect()
    }

    /// Looks up the idempotency keys of `jobs` in the former home shards of their tenants; returns the known ids by
    /// the indexes of the jobs.
    pub(super) async fn lookup_accepted(
        &self,
        jobs: &[NewJob],
    ) -> Result<HashMap<usize, JobId>, Error> {
        let mut by_shard = BTreeMap::<Shard, Vec<usize>>::new();
        for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.idempotency.is_some()) {
            for shard in self.former_home_shards(job.id.shard(), &job.tenant) {
                by_shard.entry(shard).or_default().push(index);
            }
        }
        let mut known = HashMap::new();
        for (shard, indexes) in by_shard {
            let keyed: Vec<&NewJob> = indexes.iter().map(|index| &jobs[*index]).collect();
            let ids = self.backend.accepted(&shard, &keyed).await?;
            known.extend(indexes.into_iter().zip(ids).filter_map(|(index, id)| Some((index, id?))));
        }
        Ok(known)
    }

    /// Looks up the idempotency key of `job` in the home shard of its tenant and in the former ones.
    pub(super) async fn accepted_before(&self, job: &NewJob) -> Result<Option<JobId>, Error> {
        let mut known = self.lookup_accepted(std::slice::from_ref(job)).await?;
        let here = self.backend.accepted(job.id.shard(), &[job]).await?;
        Ok(known.remove(&0).or(here.into_iter().flatten().next()))
    }

    /// Takes an orphan of `call` in `home`, the home shard of its tenant, or else in a former home shard.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn take_orphan(&self, home: &Shard, call: &CallKey) -> Result<Option<JobId>, Error> {
        let mut orphan = self.backend.take_orphan(home, call).await?;
        for shard in self.former_home_shards(home, &call.tenant) {
            if orphan.is_none() {
                orphan = self.backend.take_orphan(&shard, call).await?;
            }
        }
        Ok(orphan)
    }

    /// Copies the conversations that `jobs` continue to the home shards of their tenants.
    pub(super) async fn import_conversations(&self, jobs: &[NewJob]) -> Result<(), Error> {
        for job in jobs.iter().filter(|job| job.spec.memory.is_some()) {
            let Some(session) = &job.session else { continue };
            self.import_conversation(job.id.shard(), &job.tenant, session).await?;
        }
        Ok(())
    }

    /// Copies a conversation to `home`, unless it is there. The original stays for the jobs that still wait in the
    /// former home shard.
    pub(super) async fn import_conversation(
        &self,
        home: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<(), Error> {
        for shard in self.former_home_shards(home, tenant) {
            if self.backend.conversation(home, tenant, session).await?.is_some() {
                break;
            }
            if let Some(found) = self.backend.conversation(&shard, tenant, session).await? {
                self.backend.import_conversation(home, tenant, &found).await?;
            }
        }
        Ok(())
    }
}
