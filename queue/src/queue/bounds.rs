//! The bounds of lanes and tenants: set in every shard, and upheld there.

use std::{collections::HashMap, sync::PoisonError};

use super::Queue;
use crate::{
    error::Error,
    id::{LaneName, Shard, TenantId},
    limits::{LaneLimits, TenantLimits},
    webhook::is_of_deliveries,
};

/// Bounds as they were last set here.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    lanes: HashMap<LaneName, LaneLimits>,
    tenants: Vec<(TenantId, TenantLimits)>,
    /// The former shards that get a part of them.
    active: Vec<Shard>,
    /// Whether they were set everywhere.
    applied: bool,
}

impl Queue {
    /// Sets the bounds of lanes (those that are not named have none) over all their shards, and of
    /// these tenants in each shard; takes effect on everything that waits. A tenant that is not named any
    /// more keeps its bounds until nothing of it is left. Of deliveries, a tenant's weight is all that
    /// counts. Former shards share in a lane's bounds while something runs or can begin
    /// in them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_limits(
        &self,
        lanes: HashMap<LaneName, LaneLimits>,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let active = self.surveyed.read().unwrap_or_else(PoisonError::into_inner).active.clone();
        self.apply(Limits { lanes, tenants: tenants.to_vec(), active, applied: false }).await
    }

    /// Sets the bounds anew where they do not hold: the store did not answer when they were set, or has
    /// lost them with its data, or former shards came to share in them or do so no more. Answers whether
    /// the store had lost them. To be called every few seconds by whoever has
    /// [set](Self::set_limits) them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn uphold_limits(&self) -> Result<bool, Error> {
        let set = self.limits.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(set) = set else { return Ok(false) };
        let is_busy = !self.surveyed.read().unwrap_or_else(PoisonError::into_inner).busy.is_empty();
        if is_busy {
            self.survey().await?;
        }
        let active = self.surveyed.read().unwrap_or_else(PoisonError::into_inner).active.clone();
        let mut lost = false;
        for shard in self.shards() {
            lost |= set.applied && !self.backend.has_limits(&shard).await?;
        }
        if lost || !set.applied || active != set.active {
            self.apply(Limits { active, applied: false, ..set }).await?;
        }
        Ok(lost)
    }

    async fn apply(&self, mut limits: Limits) -> Result<(), Error> {
        let remember = |limits: &Limits| {
            *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Some(limits.clone());
        };
        remember(&limits);
        let weight =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        let tenants = &limits.tenants;
        let weights: Vec<_> =
            tenants.iter().map(|(id, limits)| (id.clone(), weight(limits))).collect();
        for (shard, part) in parts(&self.shards(), &limits) {
            let tenants = if is_of_deliveries(&shard.lane) { &weights } else { tenants };
            self.backend.set_limits(&shard, &part, tenants).await?;
        }
        limits.applied = true;
        remember(&limits);
        Ok(())
    }

    /// The bounds of a lane, as they were last set here.
    #[must_use]
    pub fn limits_of(&self, lane: &LaneName) -> LaneLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.as_ref().and_then(|set| set.lanes.get(lane)).cloned().unwrap_or_default()
    }
}

/// The shards among which these bounds are divided, with what each gets. Former shards come first, so that
/// they become empty where a bound does not suffice for all. Only shards in use share in how many jobs
/// may wait.
fn parts(used: &[Shard], limits: &Limits) -> Vec<(Shard, LaneLimits)> {
    let all = limits.active.iter().chain(used);
    let part = |shard: &Shard| {
        let whole = limits.lanes.get(&shard.lane).cloned().unwrap_or_default();
        let of = |(place, shards)| whole.part(place, shards);
        let part = of(place(shard, all.clone()));
        let waiting = if limits.active.contains(shard) {
            whole.clone()
        } else {
            of(place(shard, used.iter()))
        };
        (shard.clone(), LaneLimits { max_queued: waiting.max_queued, ..part })
    };
    all.clone().map(part).collect()
}

/// Which of the shards of its lane `shard` is among these, and how many they are.
fn place<'a>(shard: &Shard, among: impl Iterator<Item = &'a Shard>) -> (u16, u16) {
    let mut found = (0, 0);
    for other in among.filter(|other| other.lane == shard.lane) {
        if other == shard {
            found.0 = found.1;
        }
        found.1 += 1;
    }
    found
}
