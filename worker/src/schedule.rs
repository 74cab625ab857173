//! When a delivery is tried again: the schedule that Standard Webhooks advises, cut to a day.

use std::time::Duration;

/// How long an event is tried to be delivered, from its end on.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The delays between attempts in units of the base, which by default is 5 s: 5 s, 5 min, 30 min, 2 h,
/// 5 h, 10 h, 6 h. Together less than [`LIFE`].
const STEPS: [u32; 7] = [1, 60, 360, 1440, 3600, 7200, 4320];

/// The longest base: with it the delays are those above.
pub const MAX_BASE: Duration = Duration::from_secs(5);

/// By how much of itself a delay is shortened at most, so that what failed together is not tried
/// together.
const JITTER: f64 = 0.2;

/// The schedule over a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    base: Duration,
}

impl Schedule {
    /// Over `base`, at most [`MAX_BASE`].
    pub(crate) fn new(base: Duration) -> Self {
        Self { base: base.min(MAX_BASE) }
    }

    /// How many attempts there are.
    pub(crate) fn attempts() -> u32 {
        u32::try_from(STEPS.len()).unwrap_or(u32::MAX) + 1
    }

    /// The delay after the `attempt`-th attempt (from 1); `unit` is a random number in [0, 1).
    pub(crate) fn delay(self, attempt: u32, unit: f64) -> Duration {
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let steps = STEPS[step.min(STEPS.len() - 1)];
        (self.base * steps).mul_f64(1.0 - JITTER * unit.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_are_those_advised_and_fill_a_day() {
        let schedule = Schedule::new(MAX_BASE);
        let delays: Vec<u64> = (1..Schedule::attempts())
            .map(|attempt| schedule.delay(attempt, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [5, 300, 1800, 7200, 18_000, 36_000, 21_600]);
        let sum = Duration::from_secs(delays.iter().sum());
        assert!(sum < LIFE && sum > LIFE * 9 / 10, "{sum:?}");
        assert_eq!(schedule.delay(1, 1.0), Duration::from_secs(4));
        assert_eq!(schedule.delay(99, 0.0), Duration::from_secs(21_600));
    }
}
