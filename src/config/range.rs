//! The range of each number: one table for values out of range and for values of the wrong type.

use std::{fmt, ops::RangeInclusive};

/// The upper limit of bodies and answers, in bytes: both are held in memory.
const MAX_BYTES: u64 = 1 << 30;

/// An inclusive range; an end of [`u64::MAX`] means no upper limit.
pub(super) struct Range(RangeInclusive<u64>);

impl Range {
    /// Returns the range of the whole number under a dotted key without list indices:
    /// `tenant.weight`.
    pub(super) fn of(key: &str) -> Self {
        Self(match key {
            "concurrency" => 1..=100_000,
            "max_stalls" | "tenant.weight" => 1..=1000,
            "max_dead" | "simulated.tokens" => 1..=1_000_000,
            "max_response_bytes" | "api.max_body_bytes" => 1024..=MAX_BYTES,
            "max_response_memory" | "api.max_body_memory" => 1024..=u64::MAX,
            "api.max_connections" => 1..=1_000_000,
            "api.max_jobs_per_call" | "webhooks.concurrency" | "webhooks.tenant_concurrency" => {
                1..=10_000
            }
            "bridge.turns" => 0..=1000,
            "bridge.max_tokens" => 0..=u32::MAX.into(),
            "simulated.port" => 0..=u16::MAX.into(),
            "simulated.seed" => 0..=u64::MAX,
            "lane.shards" => 1..=64,
            "tenant.max_running" | "tenant.requests_per_minute" => 1..=u32::MAX.into(),
            "lane.max_running" | "lane.requests_per_minute" => 1..=u32::MAX.into(),
            _ => 1..=u64::MAX,
        })
    }

    pub(super) fn contains(&self, value: u64) -> bool {
        self.0.contains(&value)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (least, &u64::MAX) => write!(f, "at least {least}"),
            (least, most) => write!(f, "{least} to {most}"),
        }
    }
}
