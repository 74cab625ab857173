//! The bounds of lanes and tenants: set in every shard, and upheld there.
//!
//! What a lane may run is never given out twice. Where its shards come to share otherwise, parts are
//! lowered first; others are raised as far as what still runs leaves room, the rest when it has ended.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
};

use super::{Queue, parts::Part};
use crate::{
    error::Error,
    id::{LaneName, Shard, TenantId},
    limits::{LaneLimits, TenantLimits},
};

/// Bounds as they were last set here.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    lanes: HashMap<LaneName, LaneLimits>,
    tenants: Arc<[(TenantId, TenantLimits)]>,
    /// What each shard in which they were set got of its lane's.
    given: HashMap<Shard, LaneLimits>,
    /// Whether they were set everywhere.
    applied: bool,
}

impl Queue {
    /// Sets the bounds of lanes (those that are not named have none) over all their shards, and of
    /// these tenants in each shard; takes effect on everything that waits. A tenant that is not named any
    /// more keeps its bounds until nothing of it is left. In the lane of deliveries only the weight of a
    /// tenant counts, see [`Policy::delivery_limits`](crate::Policy::delivery_limits). Former shards of
    /// these lanes share in a lane's bounds while something runs or can begin in them, and begin nothing
    /// as long as they do not, where the lane has any.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_limits(
        &self,
        lanes: HashMap<LaneName, LaneLimits>,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let given = self.limits_set().map(|set| set.given).unwrap_or_default();
        self.apply(Limits { lanes, tenants: tenants.into(), given, applied: false }).await
    }

    /// Sets the limits of these tenants, and keeps those of the lanes: see [`set_limits`](Self::set_limits).
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_tenant_limits(
        &self,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let (lanes, given) =
            self.limits_set().map(|set| (set.lanes, set.given)).unwrap_or_default();
        self.apply(Limits { lanes, tenants: tenants.into(), given, applied: false }).await
    }

    /// Sets the bounds anew where they do not hold: the store did not answer when they were set, or has
    /// lost them with its data, or former shards came to share in them or do so no more. Answers whether
    /// the store had lost them. To be called every few seconds by whoever has
    /// [set](Self::set_limits) them: so long what can begin in a former shard waits for its part.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn uphold_limits(&self) -> Result<bool, Error> {
        let Some(mut set) = self.limits_set() else { return Ok(false) };
        let mut lost = false;
        for shard in self.shards() {
            lost |= set.applied && !self.backend.has_limits(&shard).await?;
        }
        // What a store has lost it has lost of former shards too: nothing is to be set in those.
        if lost || self.has_former_shards() {
            self.survey().await?;
        }
        if lost {
            set = Limits { given: HashMap::new(), applied: false, ..set };
        }
        self.apply(set).await?;
        Ok(lost)
    }

    fn limits_set(&self) -> Option<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what is not yet set so, and remembers what was.
    async fn apply(&self, mut limits: Limits) -> Result<(), Error> {
        let remember = |limits: &Limits| {
            *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Some(limits.clone());
        };
        remember(&limits);
        let parts = self.parts(&limits.lanes);
        limits.given.retain(|shard, _| parts.iter().any(|part| part.shard == *shard));
        let done = match self.lower(&mut limits, &parts).await {
            Ok(()) => self.raise(&mut limits, &parts).await,
            Err(error) => Err(error),
        };
        limits.applied = done.is_ok();
        remember(&limits);
        done
    }

    /// Sets the bounds of tenants where they are not, and of lanes what is no more than what held before.
    async fn lower(&self, limits: &mut Limits, parts: &[Part]) -> Result<(), Error> {
        for part in parts {
            let (shard, before) = (&part.shard, limits.given.get(&part.shard));
            let is_set = limits.applied && before.is_some();
            if !is_set && part.is_former && !self.holds_something(shard).await? {
                continue;
            }
            let bounds = part.lowered(before);
            if is_set && before == Some(&bounds) {
                continue;
            }
            let tenants = if is_set { &[] } else { &limits.tenants[..] };
            self.backend.set_limits(shard, &bounds, tenants).await?;
            limits.given.insert(shard.clone(), bounds);
        }
        Ok(())
    }

    /// Gives shards what they still lack of their part, as far as the lane has it to give: what runs
    /// beyond its shard's part has to end before.
    async fn raise(&self, limits: &mut Limits, parts: &[Part]) -> Result<(), Error> {
        let mut by_lane: BTreeMap<&LaneName, Vec<&Part>> = BTreeMap::new();
        for part in parts.iter().filter(|part| limits.given.contains_key(&part.shard)) {
            by_lane.entry(&part.shard.lane).or_default().push(part);
        }
        for (lane, parts) in by_lane {
            let whole = limits.lanes.get(lane).and_then(|lane| lane.max_running);
            let lacks = |part: &&Part| limits.given.get(&part.shard) != Some(&part.bounds);
            let Some(whole) = whole.filter(|_| parts.iter().any(lacks)) else { continue };
            let mut used = Vec::new();
            for part in &parts {
                let given = limits.given.get(&part.shard).and_then(|given| given.max_running);
                let running = self.backend.stats(&part.shard, None).await?.running;
                used.push(given.unwrap_or(0).max(u32::try_from(running).unwrap_or(u32::MAX)));
            }
            let mut room = whole.saturating_sub(used.iter().copied().fold(0, u32::saturating_add));
            for (part, used) in parts.into_iter().zip(used) {
                let most = part.bounds.max_running.map(|most| most.min(used.saturating_add(room)));
                let bounds = LaneLimits { max_running: most, ..part.bounds.clone() };
                if limits.given.get(&part.shard) == Some(&bounds) {
                    continue;
                }
                room -= most.unwrap_or(0).saturating_sub(used);
                self.backend.set_limits(&part.shard, &bounds, &[]).await?;
                limits.given.insert(part.shard.clone(), bounds);
            }
        }
        Ok(())
    }

    /// The bounds of a lane, as they were last set here.
    #[must_use]
    pub fn limits_of(&self, lane: &LaneName) -> LaneLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.as_ref().and_then(|set| set.lanes.get(lane)).cloned().unwrap_or_default()
    }
}
