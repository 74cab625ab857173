//! The arithmetic of retry delays.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th delay is drawn evenly from zero to `min(max, base * 2^(n-1))`.
/// Source: Brooker, "Exponential Backoff And Jitter", AWS 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

/// The reason why two durations do not form a [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// The base is zero.
    #[error("the base of a backoff must be more than zero")]
    ZeroBase,
    /// The maximum is less than the base.
    #[error("the maximum of a backoff must not be less than its base")]
    MaxBelowBase,
}

impl Backoff {
    /// Returns a backoff with these limits.
    ///
    /// # Errors
    /// If `base` is zero or `max` is less than it.
    pub fn new(base: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if max < base {
            return Err(InvalidBackoff::MaxBelowBase);
        }
        Ok(Self { base, max })
    }

    /// Returns the longest delay that may follow the `attempt`-th attempt (from 1).
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor.max(1)).min(self.max)
    }

    /// Returns the delay after the `attempt`-th attempt (from 1); `unit` is a random number in [0, 1).
    #[must_use]
    pub fn delay(&self, attempt: u32, unit: f64) -> Duration {
        self.ceiling(attempt).mul_f64(unit.clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    /// Half a second at first, at most a minute.
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_stays_below_its_ceiling(attempt in 1_u32..200, unit in 0.0..1.0_f64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(attempt, unit) <= backoff.ceiling(attempt));
            prop_assert!(backoff.ceiling(attempt) <= Duration::from_secs(60));
            prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1));
        }
    }

    #[test]
    fn ceilings_double_up_to_the_maximum() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).unwrap();
        let ceilings: Vec<u64> = (1..=5).map(|n| backoff.ceiling(n).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 5, 5]);
    }

    #[test]
    fn an_invalid_backoff_is_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Backoff::new(Duration::ZERO, second), Err(InvalidBackoff::ZeroBase));
        assert_eq!(Backoff::new(second * 2, second), Err(InvalidBackoff::MaxBelowBase));
    }
}
