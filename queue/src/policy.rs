//! The engine's bounds, each with its default.

use std::time::Duration;

use crate::{id::LaneName, limits::TenantLimits, webhook::is_of_deliveries};

/// How the engine treats jobs; the same for both backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long an ended job, its result and its events are kept. Default 24 h.
    pub retention: Duration,
    /// How long after its acceptance a job ends that has no deadline and still has no answer. Default 24 h.
    pub give_up_after: Duration,
    /// How many workers a job may lose before it fails. Default 3.
    pub max_stalls: u32,
    /// How many failed jobs a shard keeps in its list of the dead; older ones leave the list.
    /// Default 10,000.
    pub max_dead: u32,
    /// Most deliveries of one tenant that run at once, over all workers. Default 64.
    pub tenant_deliveries: u32,
    /// Most deliveries of one tenant that wait; further ends stay in the outbox. Default 100,000, a tenth of
    /// what a lane holds.
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
    /// Returns the limits of each tenant in the lane of deliveries, `None` for other lanes. Only the weight of a
    /// tenant can be set there: without the limits, one receiver that does not answer would take all workers.
    #[must_use]
    pub fn delivery_limits(&self, lane: &LaneName) -> Option<TenantLimits> {
        is_of_deliveries(lane).then(|| TenantLimits {
            max_running: Some(self.tenant_deliveries.max(1)),
            max_queued: Some(self.tenant_deliveries_queued),
            ..TenantLimits::default()
        })
    }
}

/// How much longer than the retention an unused layout is remembered: processes report the used ones once a minute, and a
/// job must not outlive the layout of its shard.
pub const LAYOUT_GRACE: Duration = Duration::from_secs(3600);

/// Most due jobs, parked flows, passed deadlines or expired leases that one transition handles;
/// what is left is handled by the next.
pub const PROMOTE_AT_ONCE: usize = 256;

/// Most attempts that one step begins.
pub const MAX_CLAIM: usize = 1000;

/// Most jobs that one enqueue accepts.
pub const MAX_ENQUEUE: usize = 10_000;
