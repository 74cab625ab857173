//! The retry schedule of webhook deliveries, as Standard Webhooks recommends it, limited to one day.

use std::time::Duration;

/// Time after the end of a job within which its event is delivered; then the delivery expires.
pub(crate) const DELIVERY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The delays between attempts in units of the base. With the default base of 5 s: 5 s, 5 min, 30 min, 2 h, 5 h,
/// 10 h, 6 h. Their sum is less than [`DELIVERY_WINDOW`].
const STEPS: [u32; 7] = [1, 60, 360, 1440, 3600, 7200, 4320];

/// The longest base, and the default.
pub const MAX_BASE: Duration = Duration::from_secs(5);

/// Largest random reduction of a delay, as a fraction. It spreads the retries of deliveries that failed together.
const JITTER: f64 = 0.2;

/// The retry schedule with one base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    base: Duration,
}

impl Schedule {
    /// Returns the schedule with `base`, at most [`MAX_BASE`].
    pub(crate) fn new(base: Duration) -> Self {
        Self { base: base.min(MAX_BASE) }
    }

    /// Returns the number of attempts.
    pub(crate) fn attempts() -> u32 {
        u32::try_from(STEPS.len()).unwrap_or(u32::MAX) + 1
    }

    /// Returns the delay after attempt `attempt` (from 1); `unit` is a random number in [0, 1).
    pub(crate) fn delay(self, attempt: u32, unit: f64) -> Duration {
        // Attempts after the last step keep its delay.
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let steps = STEPS[step.min(STEPS.len() - 1)];
        (self.base * steps).mul_f64(1.0 - JITTER * unit.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_fill_one_day() {
        let schedule = Schedule::new(MAX_BASE);
        let delays: Vec<u64> = (1..Schedule::attempts())
            .map(|attempt| schedule.delay(attempt, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [5, 300, 1800, 7200, 18_000, 36_000, 21_600]);
        let sum = Duration::from_secs(delays.iter().sum());
        assert!(sum < DELIVERY_WINDOW && sum > DELIVERY_WINDOW * 9 / 10, "{sum:?}");
        assert_eq!(schedule.delay(1, 1.0), Duration::from_secs(4));
        assert_eq!(schedule.delay(99, 0.0), Duration::from_secs(21_600));
    }
}
