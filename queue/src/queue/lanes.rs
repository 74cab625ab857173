//! Lanes: which shards they have, their bounds, and how much lies in them.

use std::{collections::HashMap, sync::PoisonError};

use super::Queue;
use crate::{
    backend::Stats,
    error::Error,
    id::{LaneName, Shard, TenantId},
    limits::{Allowance, LaneLimits, TenantLimits},
    webhook::is_of_deliveries,
};

/// One lane: which models it serves, over how many shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: LaneName,
    /// The models that are routed to it; the first lane also serves every other model.
    pub models: Vec<String>,
    /// How many shards it has, from 1.
    pub shards: u16,
}

impl Lane {
    /// A lane of one shard that serves every model.
    #[must_use]
    pub fn named(name: LaneName) -> Self {
        Self { name, models: Vec::new(), shards: 1 }
    }
}

impl Queue {
    /// The lanes, in the order of the configuration.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lane that serves `model`: the one that names it, else the first.
    #[must_use]
    pub fn lane_of(&self, model: Option<&str>) -> &Lane {
        let named =
            |lane: &&Lane| model.is_some_and(|model| lane.models.iter().any(|m| m == model));
        self.lanes.iter().find(named).unwrap_or(&self.lanes[0])
    }

    /// Every shard that may hold something: those of the lanes, and those that an earlier
    /// configuration used, as the last [`survey`](Self::survey) found them.
    #[must_use]
    pub fn known_shards(&self) -> Vec<Shard> {
        let mut shards = self.shards();
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        shards.extend(former.iter().cloned());
        shards
    }

    /// Looks for shards of an earlier configuration, and answers with those of them that hold jobs
    /// which have not ended. To be called at the start and every minute: a lane whose number of
    /// shards changed goes on with what lies in the former ones.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn survey(&self) -> Result<Vec<Shard>, Error> {
        let used = self.shards();
        let mut former = self.backend.known_shards(&used).await?;
        former.retain(|shard| !used.contains(shard));
        former.sort();
        self.former.write().unwrap_or_else(PoisonError::into_inner).clone_from(&former);
        let mut busy = Vec::new();
        for shard in former {
            let stats = self.backend.stats(&shard, None).await?;
            if stats.queued + stats.running > 0 {
                busy.push(shard);
            }
        }
        Ok(busy)
    }

    /// Every shard of every lane.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        let of_lane = |lane: &Lane| {
            let name = lane.name.clone();
            (0..lane.shards.max(1)).map(move |index| Shard { lane: name.clone(), index })
        };
        self.lanes.iter().flat_map(of_lane).collect()
    }

    /// Sets the bounds of lanes (those that are not named have none) over all their shards, and of
    /// these tenants in each shard; takes effect on everything that waits. Of deliveries, a tenant's
    /// weight is all that counts.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_limits(
        &self,
        lanes: HashMap<LaneName, LaneLimits>,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let weight =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        let weights: Vec<_> =
            tenants.iter().map(|(id, limits)| (id.clone(), weight(limits))).collect();
        for shard in self.known_shards() {
            let whole = lanes.get(&shard.lane).cloned().unwrap_or_default();
            let lane = self.lanes.iter().find(|lane| lane.name == shard.lane);
            let shards = lane.map_or(1, |lane| lane.shards).max(1);
            let part = whole.part(shard.index % shards, shards);
            let tenants = if is_of_deliveries(&shard.lane) { &weights } else { tenants };
            self.backend.set_limits(&shard, &part, tenants).await?;
        }
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = lanes;
        Ok(())
    }

    /// The bounds of a lane, as they were last set here.
    #[must_use]
    pub fn limits_of(&self, lane: &LaneName) -> LaneLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.get(lane).cloned().unwrap_or_default()
    }

    /// Pauses or resumes the claims of a lane, or of one tenant in it. What runs goes on.
    ///
    /// # Errors
    /// When the store does not answer.
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

    /// A lane in numbers, over all its shards, for one tenant or for all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn stats(&self, lane: &LaneName, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        let mut sum = Stats::default();
        for shard in self.known_shards().iter().filter(|shard| shard.lane == *lane) {
            sum.add(&self.backend.stats(shard, tenant).await?);
        }
        Ok(sum)
    }

    /// What `tenant` has left of its rates in the lane of `model`.
    ///
    /// # Errors
    /// When the store does not answer.
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
