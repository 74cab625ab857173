//! Administration.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    error::Error,
    id::{Layout, Shard, TenantId},
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
};

/// Limits, pauses and the state of the store.
#[async_trait]
pub trait Administration: fmt::Debug + Send + Sync {
    /// Sets the limits of the lane (the share of this shard) and of tenants. They apply to waiting jobs too.
    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error>;

    /// Returns true if the limits of this shard were ever set. A store that lost its data has none.
    async fn has_limits(&self, shard: &Shard) -> Result<bool, Error>;

    /// Pauses or resumes the claims of a whole shard (`None`) or of one tenant in it.
    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error>;

    /// Returns the pauses: the whole shard (`None`), or a tenant in it.
    async fn paused(&self, shard: &Shard) -> Result<Vec<Option<TenantId>>, Error>;

    /// Starts no attempt in the shard for `delay`, because the upstream refused an attempt in another shard. For an
    /// attempt in this shard, the settlement has the same effect.
    async fn stop(&self, shard: &Shard, delay: Duration) -> Result<(), Error>;

    /// Takes one token from the bucket `name` of a tenant.
    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error>;

    /// The layouts that are [remembered](Self::remember_layouts).
    async fn layouts(&self) -> Result<Vec<Layout>, Error>;

    /// Remembers that these layouts are in use now, and forgets those that were not used for one retention and
    /// [`LAYOUT_GRACE`](crate::policy::LAYOUT_GRACE).
    async fn remember_layouts(&self, used: &[Layout]) -> Result<(), Error>;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), Error>;

    /// Describes the store for people, e.g. `embedded, in memory`. Without secrets.
    fn describe(&self) -> String;
}
