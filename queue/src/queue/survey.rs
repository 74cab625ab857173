//! Shards that an earlier configuration used and the present one does not: which there are, and what is left in
//! them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::PoisonError,
};

use super::Queue;
use crate::{
    error::Error,
    id::{LaneName, Layout, Shard},
    limits::LaneLimits,
};

/// What the last survey found.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    /// How lanes were spread before, otherwise than now.
    pub(super) former: Vec<Layout>,
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
        let mut busy = Vec::new();
        for shard in self.former_shards() {
            let stats = self.backend.stats(&shard, None).await?;
            if stats.queued + stats.running > 0 {
                busy.push(shard);
            }
        }
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

    /// Returns each known shard of the lanes with its share of the limits of its lane. A former shard takes the share
    /// of a current one, so a lane may run up to `known shards / current shards` times its limits.
    pub(super) fn shares(
        &self,
        limits: &HashMap<LaneName, LaneLimits>,
    ) -> Vec<(Shard, LaneLimits)> {
        let share = |shard: Shard| {
            let shards = self.layouts().find(|layout| layout.lane == shard.lane)?.shards;
            let whole = limits.get(&shard.lane).cloned().unwrap_or_default();
            let share = whole.share(shard.index % shards, shards);
            Some((shard, share))
        };
        self.known_shards().into_iter().filter_map(share).collect()
    }
}
