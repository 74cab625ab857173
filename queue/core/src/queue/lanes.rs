//! The shards of the lanes, their counts, their pauses and their cool-downs.

use std::{sync::PoisonError, time::Duration};

use super::Queue;
use crate::{
    backend::Stats,
    error::Error,
    id::{LaneName, Layout, Shard, TenantId},
    lane::Lane,
    lease::ClaimRequest,
    limits::Allowance,
    webhook::is_of_deliveries,
};

impl Queue {
    /// Returns the lanes in the order of the configuration.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Returns the lane that serves `model`: the one that names it, else the first.
    #[must_use]
    pub fn lane_of(&self, model: Option<&str>) -> &Lane {
        let named =
            |lane: &&Lane| model.is_some_and(|model| lane.models.iter().any(|m| m == model));
        self.lanes.iter().find(named).unwrap_or(&self.lanes[0])
    }

    /// Returns the layout of the lanes: the number of shards of each.
    pub(super) fn layouts(&self) -> impl Iterator<Item = Layout> {
        let layout = |lane: &Lane| Layout { lane: lane.name.clone(), shards: lane.shards.max(1) };
        self.lanes.iter().map(layout)
    }

    /// Returns every shard of every lane.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        self.layouts().flat_map(|layout| layout.all()).collect()
    }

    /// Returns the shards that may hold data of `tenant`, without deliveries: its shard in each lane, then its former
    /// ones.
    pub(super) fn shards_of(&self, tenant: &TenantId) -> Vec<Shard> {
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        let all = self.layouts().chain(former.iter().cloned());
        let homes = all.filter(|layout| !is_of_deliveries(&layout.lane));
        let mut shards = Vec::new();
        for home in homes.map(|layout| layout.home_shard(tenant)) {
            if !shards.contains(&home) {
                shards.push(home);
            }
        }
        shards
    }

    /// Pauses or resumes the claims of a lane, or of one tenant in it. Running jobs continue.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn pause(
        &self,
        lane: &LaneName,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error> {
        for shard in self.known_shards().iter().filter(|shard| shard.lane == *lane) {
            self.backend.pause(shard, tenant, paused).await?;
        }
        Ok(())
    }

    /// Starts no attempt for `delay` in the other shards of the lane of `shard`, because the upstream refused an attempt
    /// in `shard`.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn stop_beside(&self, shard: &Shard, delay: Duration) -> Result<(), Error> {
        let beside = |other: &&Shard| other.lane == shard.lane && *other != shard;
        for other in self.known_shards().iter().filter(beside) {
            self.backend.stop(other, delay).await?;
        }
        Ok(())
    }

    /// Promotes due jobs and ends expired ones, in lanes that no worker serves.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn let_in(&self) -> Result<(), Error> {
        let nothing = ClaimRequest { max: 0, lease: Duration::ZERO };
        for shard in self.known_shards() {
            self.backend.step(&shard, &mut Vec::new(), nothing).await?;
        }
        Ok(())
    }

    /// Returns the counts of a lane over all its shards, for one tenant or for all. Values of a tenant that cannot be
    /// added up are those of the shard that accepts its new jobs.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn stats(&self, lane: &LaneName, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        let layout = self.layouts().find(|layout| layout.lane == *lane);
        let own = layout.zip(tenant).map(|(layout, tenant)| layout.home_shard(tenant));
        let mut sum = match &own {
            Some(shard) => self.backend.stats(shard, tenant).await?,
            None => Stats::default(),
        };
        let others = self.known_shards().into_iter().filter(|shard| Some(shard) != own.as_ref());
        for shard in others.filter(|shard| shard.lane == *lane) {
            sum.add(&self.backend.stats(&shard, tenant).await?);
        }
        self.add_workers_to(&mut sum, lane).await;
        Ok(sum)
    }

    /// Returns the number of ready jobs of a lane by class, over all its shards and tenants.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn ready(&self, lane: &LaneName) -> Result<[u64; 3], Error> {
        let mut sum = [0; 3];
        for shard in self.known_shards().iter().filter(|shard| shard.lane == *lane) {
            let ready = self.backend.ready(shard).await?;
            sum.iter_mut().zip(ready).for_each(|(sum, ready)| *sum += ready);
        }
        Ok(sum)
    }

    /// Returns the remaining rates of `tenant` in the lane of `model`.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn allowance(
        &self,
        tenant: &TenantId,
        model: Option<&str>,
    ) -> Result<Allowance, Error> {
        let lane = self.lane_of(model);
        let shard = Shard::of(&lane.name, lane.shards, tenant);
        Ok(self.backend.stats(&shard, Some(tenant)).await?.allowance)
    }
}
