//! What keeps the jobs of the lane or of a tenant from starting: the facts from which [`crate::waiting`] chooses one.

use super::owners::{Lane, Meters, Rates, Tenant, ms};
use crate::{
    clock::Millis,
    waiting::{Gate, LaneGate},
};

impl Tenant {
    /// What keeps the tenant's jobs from starting.
    pub(in crate::embedded) fn gate(&self, now: Millis) -> Gate {
        Gate {
            is_paused: self.paused,
            is_at_cap: self.limits.max_running.is_some_and(|cap| self.running >= cap),
            rate_until: rate_until(&self.meters, self.rates(), now),
        }
    }
}

impl Lane {
    /// What keeps all jobs of the lane from starting.
    pub(in crate::embedded) fn gate(&self, now: Millis) -> LaneGate {
        let gate = Gate {
            is_paused: self.paused,
            is_at_cap: self.limits.max_running.is_some_and(|cap| self.running >= cap),
            rate_until: rate_until(&self.meters, self.rates(), now),
        };
        let refused_until = (self.not_before > now).then_some(self.not_before);
        LaneGate { gate, down: self.down(), refused_until }
    }
}

/// When the rates permit the next attempt, rounded up; `None` if they do now.
fn rate_until(meters: &Meters, rates: Rates, now: Millis) -> Option<Millis> {
    let at = meters.open_at(rates);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "later than now")]
    (at > ms(now)).then(|| Millis(at.ceil() as u64))
}
