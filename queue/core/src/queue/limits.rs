//! The limits of lanes and tenants: set in every known shard, which enforces them.

use std::{
    collections::{HashMap, HashSet},
    sync::PoisonError,
};

use super::{LatestLimits, Queue};
use crate::{
    error::Error,
    id::{LaneName, Shard, TenantId},
    limits::{LaneLimits, TenantLimits},
};

impl Queue {
    /// Sets the limits of lanes (a lane that is not named has none) and of tenants in every known shard; takes effect on
    /// everything that waits. A tenant that is not named keeps its limits until it is idle. In the lane of
    /// deliveries only the weight of a tenant can be set, see
    /// [`Policy::delivery_limits`](crate::Policy::delivery_limits).
    ///
    /// # Errors
    /// If the store does not answer; [`uphold_limits`](Self::uphold_limits) sets them then.
    pub async fn set_limits(
        &self,
        lanes: HashMap<LaneName, LaneLimits>,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let _turn = self.setting_limits.lock().await;
        self.apply(LatestLimits { lanes, tenants: tenants.into(), set_in: HashSet::new() }).await
    }

    /// Sets the limits of tenants, and keeps those of the lanes: see [`set_limits`](Self::set_limits).
    ///
    /// # Errors
    /// If the store does not answer; [`uphold_limits`](Self::uphold_limits) sets them then.
    pub async fn set_tenant_limits(
        &self,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let _turn = self.setting_limits.lock().await;
        let lanes = self.latest_limits().map(|latest| latest.lanes).unwrap_or_default();
        self.apply(LatestLimits { lanes, tenants: tenants.into(), set_in: HashSet::new() }).await
    }

    /// Sets the latest limits where they are missing: the store did not answer, or has lost its data, or a former
    /// shard was discovered. Returns true if the store had lost them. Call it every few seconds in each process that
    /// [sets](Self::set_limits) limits.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn uphold_limits(&self) -> Result<bool, Error> {
        // Otherwise limits that are set meanwhile would be overwritten by the earlier ones.
        let _turn = self.setting_limits.lock().await;
        let Some(mut latest) = self.latest_limits() else { return Ok(false) };
        let mut lost = false;
        for shard in self.shards().iter().filter(|shard| latest.set_in.contains(shard)) {
            lost |= !self.backend.has_limits(shard).await?;
        }
        if lost {
            // The layouts are lost too.
            self.discover().await?;
            latest.set_in.clear();
        }
        let is_set = |(shard, _): &(Shard, LaneLimits)| latest.set_in.contains(shard);
        if !self.shares(&latest.lanes).iter().all(is_set) {
            self.apply(latest).await?;
        }
        Ok(lost)
    }

    fn latest_limits(&self) -> Option<LatestLimits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets `limits` in all known shards in which they are not set yet.
    async fn apply(&self, mut limits: LatestLimits) -> Result<(), Error> {
        let remember = |limits: LatestLimits| {
            *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Some(limits);
        };
        remember(limits.clone());
        let mut result = Ok(());
        for (shard, share) in self.shares(&limits.lanes) {
            if !limits.set_in.contains(&shard) {
                result = self.backend.set_limits(&shard, &share, &limits.tenants).await;
                if result.is_err() {
                    break;
                }
                limits.set_in.insert(shard);
            }
        }
        remember(limits);
        result
    }

    /// Returns the limits of a lane, as this process set them last.
    #[must_use]
    pub fn limits_of(&self, lane: &LaneName) -> LaneLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.as_ref().and_then(|latest| latest.lanes.get(lane)).cloned().unwrap_or_default()
    }
}
