//! Limits of tenants and lanes, and the arithmetic of rates.
//!
//! Rates follow the generic cell rate algorithm (ITU-T I.371, the "virtual scheduling" form): a bucket that holds one
//! minute's allowance and is refilled evenly. Its state is one number, the theoretical arrival time (TAT), so a
//! transition reads and writes it in place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::{Millis, millis},
    error::{Error, Scope},
};

/// A minute, in milliseconds.
pub const MINUTE_MS: f64 = 60_000.0;

/// The limits of one tenant in a lane shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// The share of the lane's tokens relative to other tenants, 1 to 1,000. Default 1.
    pub weight: u32,
    /// The most jobs that run at once. Default: no limit.
    pub max_running: Option<u32>,
    /// The most jobs that wait. Default: only the lane's limit.
    pub max_queued: Option<u64>,
    /// The most attempts started per minute. Default: no limit.
    pub requests_per_minute: Option<u32>,
    /// The most tokens per minute. Default: no limit.
    pub tokens_per_minute: Option<u64>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            weight: 1,
            max_running: None,
            max_queued: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// The limits of a lane for all its tenants together. With several shards each takes an even share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaneLimits {
    /// The most jobs that run at once, over all workers. Default: no limit.
    pub max_running: Option<u32>,
    /// The most jobs that wait. Default 1,000,000.
    pub max_queued: u64,
    /// The most attempts started per minute. Default: no limit.
    pub requests_per_minute: Option<u32>,
    /// The most tokens per minute. Default: no limit.
    pub tokens_per_minute: Option<u64>,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self {
            max_running: None,
            max_queued: 1_000_000,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

impl LaneLimits {
    /// Returns the share of shard `index` of `shards` (at least 1): at least 1, so that no shard stands still. The shares
    /// of a limit that is not below the number of shards add up to the whole.
    #[must_use]
    pub fn share(&self, index: u16, shards: u16) -> Self {
        let share = |whole: u64| {
            let (index, shards) = (u64::from(index), u64::from(shards.max(1)));
            (whole / shards + u64::from(index < whole % shards)).max(1)
        };
        let share32 = |whole: u32| u32::try_from(share(whole.into())).unwrap_or(whole);
        Self {
            max_running: self.max_running.map(share32),
            max_queued: share(self.max_queued),
            requests_per_minute: self.requests_per_minute.map(share32),
            tokens_per_minute: self.tokens_per_minute.map(share),
        }
    }
}

/// A rate: a bucket of `limit` tokens that is refilled evenly within `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The capacity of the bucket. At least 1.
    pub limit: u64,
    /// The time in which an empty bucket fills.
    pub window: Duration,
}

/// The decision of a rate about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// True if the request may pass.
    pub allowed: bool,
    /// The number of further requests that may pass now.
    pub remaining: u64,
    /// The time until a request may pass; zero if one may pass now.
    pub retry_after: Duration,
    /// The time until the bucket is full.
    pub reset_after: Duration,
}

/// The remaining allowance of a tenant under a rate per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// The number per minute.
    pub limit: u64,
    /// The number that may still be started or used now.
    pub remaining: u64,
    /// The time until the bucket is full.
    pub reset_after: Duration,
}

impl Headroom {
    /// Returns the headroom of a bucket that is full in `backlog_ms`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts and milliseconds lie below 2^53, and none is negative"
    )]
    pub fn new(limit: u64, backlog_ms: f64) -> Self {
        let full = (MINUTE_MS - backlog_ms).max(0.0) / MINUTE_MS * limit as f64;
        let reset_after = Duration::from_secs_f64(backlog_ms.max(0.0) / 1000.0);
        Self { limit, remaining: full as u64, reset_after }
    }
}

/// The remaining rates of a tenant in a lane; `None` where it has no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Attempts per minute.
    pub requests: Option<Headroom>,
    /// Tokens per minute.
    pub tokens: Option<Headroom>,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds lie below 2^53")]
    fn window_ms(&self) -> f64 {
        millis(self.window) as f64
    }

    /// Returns the largest distance of the TAT from now at which a request passes.
    fn tolerance_ms(&self) -> f64 {
        self.window_ms() - self.interval_ms()
    }

    /// Returns the milliseconds between two requests at an even pace.
    fn interval_ms(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "limits lie far below 2^52")]
        let limit = self.limit.max(1) as f64;
        self.window_ms() / limit
    }

    /// Takes one token from the bucket with the TAT `tat` (milliseconds since 1970, 0 for a new bucket); returns the
    /// new TAT.
    #[must_use]
    pub fn take(&self, tat: f64, now: Millis) -> (f64, Throttle) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds lie below 2^53")]
        let now = now.0 as f64;
        let base = tat.max(now);
        let allowed = base - now <= self.tolerance_ms();
        let next = if allowed { base + self.interval_ms() } else { base };
        // The small addend keeps rounding errors from hiding a whole token.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the limit, floored at zero"
        )]
        let remaining =
            ((self.tolerance_ms() + self.interval_ms() - (next - now)) / self.interval_ms() + 1e-9)
                .max(0.0) as u64;
        let span = |ms: f64| Duration::from_secs_f64(ms.max(0.0).ceil() / 1000.0);
        let retry_after = span(next - now - self.tolerance_ms());
        (next, Throttle { allowed, remaining, retry_after, reset_after: span(next - now) })
    }
}

/// Returns the milliseconds in which `excess` jobs end at `per_s` jobs per second; `None` if the rate is unknown.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of jobs lie below 2^53, and none is negative"
)]
pub fn drain_ms(excess: u64, per_s: f64) -> Option<u64> {
    (per_s > 0.0).then(|| (excess as f64 * 1000.0 / per_s) as u64)
}

/// The `Retry-After` of a refused request while the drain rate is unknown, in seconds.
const RETRY_AFTER_UNKNOWN_S: u64 = 5;

/// The longest `Retry-After`, in seconds: an estimate far ahead is often too long.
const MAX_RETRY_AFTER_S: u64 = 120;

/// Returns the `Retry-After` of a refused request, if there is room in `room_in_ms`: 1 s to `MAX_RETRY_AFTER_S`.
#[must_use]
pub fn come_again(room_in_ms: Option<u64>) -> Duration {
    let in_s = |ms: u64| ms.div_ceil(1000).clamp(1, MAX_RETRY_AFTER_S);
    Duration::from_secs(room_in_ms.map_or(RETRY_AFTER_UNKNOWN_S, in_s))
}

/// Refuses new jobs that do not fit beside the waiting ones; `room_in_ms` estimates the milliseconds until there is
/// room for that excess.
pub fn check_bound(
    scope: Scope,
    limit: Option<u64>,
    (waiting, new): (u64, u64),
    room_in_ms: impl FnOnce(u64) -> Option<u64>,
) -> Result<(), Error> {
    // A call without new jobs passes: the limit may have been lowered below the number of waiting jobs.
    let full = limit.filter(|limit| new > 0 && waiting + new > *limit);
    let Some(limit) = full else { return Ok(()) };
    let retry_after = come_again(room_in_ms(waiting + new - limit));
    Err(Error::Full { scope, limit, waiting, new, retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_evenly() {
        let rate = Rate { limit: 60, window: Duration::from_secs(60) };
        let (mut tat, mut now) = (0.0, Millis(1_000_000));
        for left in (0..60).rev() {
            let (next, answer) = rate.take(tat, now);
            assert!(answer.allowed);
            assert_eq!(answer.remaining, left);
            tat = next;
        }
        let (next, answer) = rate.take(tat, now);
        assert!(!answer.allowed);
        assert_eq!(answer.retry_after, Duration::from_secs(1));
        assert_eq!(answer.reset_after, Duration::from_secs(60));
        now = now.after(answer.retry_after);
        assert!(rate.take(next, now).1.allowed);
    }

    #[test]
    fn shares_of_a_lane_add_up() {
        let whole = LaneLimits { max_running: Some(10), max_queued: 7, ..LaneLimits::default() };
        let shares: Vec<LaneLimits> = (0..4).map(|index| whole.share(index, 4)).collect();
        assert_eq!(shares.iter().filter_map(|share| share.max_running).sum::<u32>(), 10);
        assert_eq!(shares.iter().map(|share| share.max_queued).sum::<u64>(), 7);
    }
}
