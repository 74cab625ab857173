//! Bounds of tenants and lanes, and the arithmetic of rates.
//!
//! Rates follow the generic cell rate algorithm (ITU-T I.371, the "virtual scheduling" form): a
//! bucket that holds one minute's allowance and is refilled evenly. State is one number, the
//! theoretical arrival time (TAT), so a transition reads and writes it in place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::{Millis, millis},
    error::{Error, Scope},
};

/// A minute, in milliseconds.
pub(crate) const MINUTE_MS: f64 = 60_000.0;

/// What one tenant may use of a lane shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Share of the lane's tokens relative to other tenants, 1 to 1,000. Default 1.
    pub weight: u32,
    /// Most jobs that run at once. Default: no bound.
    pub max_running: Option<u32>,
    /// Most jobs that wait. Default: only the lane's bound.
    pub max_queued: Option<u64>,
    /// Most attempts begun per minute. Default: no bound.
    pub requests_per_minute: Option<u32>,
    /// Most tokens per minute. Default: no bound.
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

/// What all tenants together may use of a lane. With several shards each takes an even share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaneLimits {
    /// Most jobs that run at once, over the whole fleet. Default: no bound.
    pub max_running: Option<u32>,
    /// Most jobs that wait. Default 1,000,000.
    pub max_queued: u64,
    /// Most attempts begun per minute. Default: no bound.
    pub requests_per_minute: Option<u32>,
    /// Most tokens per minute. Default: no bound.
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
    /// How many fit. At least 1.
    pub limit: u64,
    /// How long an empty bucket takes to fill.
    pub window: Duration,
}

/// What a rate said to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Whether it may pass.
    pub allowed: bool,
    /// How many more may pass now.
    pub remaining: u64,
    /// How long until one may pass again; zero when one may pass now.
    pub retry_after: Duration,
    /// How long until the bucket is full again.
    pub reset_after: Duration,
}

/// What a tenant has left of a rate per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// How many a minute allows.
    pub limit: u64,
    /// How many more may be begun or used now.
    pub remaining: u64,
    /// How long until the bucket is full again.
    pub reset_after: Duration,
}

impl Headroom {
    /// Of a bucket that is full again in `backlog_ms`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts and milliseconds lie below 2^53, and none is negative"
    )]
    pub(crate) fn new(limit: u64, backlog_ms: f64) -> Self {
        let full = (MINUTE_MS - backlog_ms).max(0.0) / MINUTE_MS * limit as f64;
        let reset_after = Duration::from_secs_f64(backlog_ms.max(0.0) / 1000.0);
        Self { limit, remaining: full as u64, reset_after }
    }
}

/// What a tenant has left of its rates in a lane; `None` where it has no such bound.
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

    /// The longest that a TAT may lie ahead for a request to pass.
    fn tolerance_ms(&self) -> f64 {
        self.window_ms() - self.interval_ms()
    }

    /// Milliseconds between two requests at an even pace.
    fn interval_ms(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "limits lie far below 2^52")]
        let limit = self.limit.max(1) as f64;
        self.window_ms() / limit
    }

    /// Takes one from the bucket whose TAT (milliseconds since 1970, 0 when new) is `tat`; answers
    /// with the new TAT.
    #[must_use]
    pub fn take(&self, tat: f64, now: Millis) -> (f64, Throttle) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds lie below 2^53")]
        let now = now.0 as f64;
        let base = tat.max(now);
        let allowed = base - now <= self.tolerance_ms();
        let next = if allowed { base + self.interval_ms() } else { base };
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

/// In how many milliseconds `excess` jobs have ended, while `per_s` end each second; `None` while nothing
/// was measured.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of jobs lie below 2^53, and none is negative"
)]
pub(crate) fn drain_ms(excess: u64, per_s: f64) -> Option<u64> {
    (per_s > 0.0).then(|| (excess as f64 * 1000.0 / per_s) as u64)
}

/// When to come again that was refused, where there should be room in so many milliseconds: 1 to 120 s,
/// and 5 s where nobody knows.
#[must_use]
pub(crate) fn come_again(room_in_ms: Option<u64>) -> Duration {
    Duration::from_secs(room_in_ms.map_or(5, |ms| ms.div_ceil(1000).clamp(1, 120)))
}

/// Refuses more new jobs than there is room for beside those that wait; `room_in_ms` tells in how many
/// milliseconds there should be room for so many too many.
pub(crate) fn check_bound(
    scope: Scope,
    limit: Option<u64>,
    (waiting, new): (u64, u64),
    room_in_ms: impl FnOnce(u64) -> Option<u64>,
) -> Result<(), Error> {
    // Bounds may have been lowered below what waits: what brings nothing new may come all the same.
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
