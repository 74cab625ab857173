//! The facts that block the jobs of the lane or of a tenant, from which [`causeway_queue::waiting`] chooses one reason.

use super::owners::{LaneState, Meters, Rates, TenantState, ms};
use causeway_queue::{
    clock::Millis,
    waiting::{Gate, LaneGate},
};

impl TenantState {
    /// Returns the facts that may block the tenant's jobs.
    pub(crate) fn gate(&self, now: Millis) -> Gate {
        Gate {
            is_paused: self.paused,
            is_at_cap: self.limits.max_running.is_some_and(|cap| self.running >= cap),
            rate_until: rate_until(&self.meters, self.rates(), now),
        }
    }
}

impl LaneState {
    /// Returns the facts that may block all jobs of the lane.
    pub(crate) fn gate(&self, now: Millis) -> LaneGate {
        let gate = Gate {
            is_paused: self.paused,
            is_at_cap: self.limits.max_running.is_some_and(|cap| self.running >= cap),
            rate_until: rate_until(&self.meters, self.rates(), now),
        };
        let refused_until = (self.not_before > now).then_some(self.not_before);
        LaneGate { gate, down: self.down(), refused_until }
    }
}

/// Returns the time of the next attempt that the rates permit, rounded up; `None` if they permit one now.
fn rate_until(meters: &Meters, rates: Rates, now: Millis) -> Option<Millis> {
    let at = meters.open_at(rates);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "later than now")]
    (at > ms(now)).then(|| Millis(at.ceil() as u64))
}
