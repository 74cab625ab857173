//! The engine's limits and durations, each with its default.

use std::time::Duration;

use crate::{id::LaneName, limits::TenantLimits, webhook::is_of_deliveries};

/// The rules by which the engine treats jobs; the same for both backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The time for which an ended job, its result and its events are kept. Default 24 h.
    pub retention: Duration,
    /// The time from acceptance after which a job without a deadline and without an answer expires. Default 24 h.
    pub give_up_after: Duration,
    /// The number of lost workers at which a job fails. Default 3.
    pub max_stalls: u32,
    /// The most failed jobs in a shard's list of the dead; older ones leave the list. Default 10,000.
    pub max_dead: u32,
    /// The most deliveries of one tenant that run at once, over all workers. Default 64.
    pub tenant_deliveries: u32,
    /// The most deliveries of one tenant that wait; further webhook events stay in the outbox. Default 100,000, a
    /// tenth of the default limit of a lane.
    pub tenant_deliveries_queued: u64,
}

impl Default for Policy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            retention: day,
            give_up_after: day,
            max_stalls: 3,
            max_dead: 10_000,
            tenant_deliveries: 64,
            tenant_deliveries_queued: 100_000,
        }
    }
}

impl Policy {
    /// Returns the limits of each tenant in the lane of deliveries, `None` for other lanes. Only a tenant's weight
    /// can be set there. Without the limits, one receiver that does not answer would occupy all workers.
    #[must_use]
    pub fn delivery_limits(&self, lane: &LaneName) -> Option<TenantLimits> {
        is_of_deliveries(lane).then(|| TenantLimits {
            max_running: Some(self.tenant_deliveries.max(1)),
            max_queued: Some(self.tenant_deliveries_queued),
            ..TenantLimits::default()
        })
    }
}

/// The time beyond the retention for which an unused layout is remembered: processes report the used ones once a minute,
/// and a job must not outlive the layout of its shard.
pub const LAYOUT_GRACE: Duration = Duration::from_secs(3600);

/// The most due jobs, parked flows, passed deadlines or expired leases that one transition handles; the next one
/// handles the rest. It bounds the time for which a transition blocks the store.
pub const PROMOTE_AT_ONCE: usize = 256;

/// The most attempts that one step starts.
pub const MAX_CLAIM: usize = 1000;

/// The most jobs that one enqueue accepts.
pub const MAX_ENQUEUE: usize = 10_000;
