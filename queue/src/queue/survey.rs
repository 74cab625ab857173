//! Shards that an earlier configuration used and the present one does not: which there are, and what is left in
//! them.

use std::{collections::BTreeSet, sync::PoisonError};

use super::Queue;
use crate::{
    error::Error,
    id::{Layout, Shard},
};

/// What the last survey found.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    /// How lanes were spread before, otherwise than now.
    pub(super) former: Vec<Layout>,
    /// The shards of these that hold jobs which have not ended, or which can be put back.
    held: Vec<Shard>,
    /// Of these, those in which something runs or can begin.
    active: Vec<Shard>,
}

impl Queue {
    /// Looks how lanes were spread before, and answers with the shards of that time that hold jobs
    /// which have not ended. To be called at the start and every minute, by workers every few seconds as
    /// long as there [are](Self::has_former_shards) former shards: a lane whose number of shards changed
    /// goes on with what lies there, also with what is put back. What is paused in the lane is paused in
    /// shards that are new.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn survey(&self) -> Result<Vec<Shard>, Error> {
        let mut former = self.backend.layouts().await?;
        let new: Vec<Layout> = self.layouts().filter(|layout| !former.contains(layout)).collect();
        if !new.is_empty() {
            for layout in &new {
                self.pause_new(layout, &former).await?;
            }
            self.backend.remember_layouts(&new).await?;
        }
        former.retain(|layout| self.layouts().all(|used| used != *layout));
        self.surveyed.write().unwrap_or_else(PoisonError::into_inner).former = former;
        let (mut busy, mut held, mut active) = (Vec::new(), Vec::new(), Vec::new());
        for shard in self.former_shards() {
            let stats = self.backend.stats(&shard, None).await?;
            // What waits for its time, or is paused, needs nothing of the lane's bounds.
            if stats.running > 0 || stats.oldest_wait_ms > 0 {
                active.push(shard.clone());
            }
            if stats.queued + stats.running + stats.dead.unwrap_or(0) > 0 {
                held.push(shard.clone());
            }
            if stats.queued + stats.running > 0 {
                busy.push(shard);
            }
        }
        let mut surveyed = self.surveyed.write().unwrap_or_else(PoisonError::into_inner);
        (surveyed.held, surveyed.active) = (held, active);
        Ok(busy)
    }

    /// Pauses in the new shards of a lane what is paused in its first one.
    async fn pause_new(&self, layout: &Layout, former: &[Layout]) -> Result<(), Error> {
        let of_lane = former.iter().filter(|former| former.lane == layout.lane);
        let Some(known) = of_lane.map(|former| former.shards).max() else { return Ok(()) };
        let first = Shard { lane: layout.lane.clone(), index: 0 };
        for tenant in self.backend.paused(&first).await? {
            for shard in layout.all().skip(known.into()) {
                self.backend.pause(&shard, tenant.as_ref(), true).await?;
            }
        }
        Ok(())
    }

    /// The shards that an earlier configuration used and this one does not, as the last
    /// [`survey`](Self::survey) found them.
    pub(super) fn former_shards(&self) -> Vec<Shard> {
        let used = self.shards();
        let surveyed = self.surveyed.read().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeSet<Shard> = surveyed.former.iter().flat_map(Layout::all).collect();
        all.into_iter().filter(|shard| !used.contains(shard)).collect()
    }

    /// Whether lanes were spread otherwise before, as the last [`survey`](Self::survey) found them.
    #[must_use]
    pub fn has_former_shards(&self) -> bool {
        !self.former_shards().is_empty()
    }

    /// The former shards in which something ran or could begin when the last survey came by.
    pub(super) fn active_shards(&self) -> Vec<Shard> {
        self.surveyed.read().unwrap_or_else(PoisonError::into_inner).active.clone()
    }

    /// Whether a former shard may hold jobs. Where a process that accepts jobs has ever been, it has set
    /// bounds.
    pub(super) async fn holds_something(&self, former: &Shard) -> Result<bool, Error> {
        Ok(self.is_held(former) || self.backend.has_limits(former).await?)
    }

    fn is_held(&self, former: &Shard) -> bool {
        self.surveyed.read().unwrap_or_else(PoisonError::into_inner).held.contains(former)
    }
}
