//! The estimated wait of a job: the work ahead of it, at the pace of the slowest limit.

use super::{
    Flow, Flows,
    owners::{TenantState, ms, number},
};
use causeway_queue::{clock::Millis, fair, id::TenantId, limits::drain_ms, state::Class};

/// The longest estimate: 2^53, up to which every JSON client can count.
const LONGEST_MS: f64 = 9_007_199_254_740_992.0;

impl Flows {
    /// Returns the estimated milliseconds until the start of a job with the cost `cost` and `ahead` jobs of its flow
    /// before it; `None` while the drain rate is unknown or outdated, in a pause, and while the lane is down. It is
    /// the longest of:
    ///
    /// - its turn, by weight, at the drain rate of the lane;
    /// - the wait until the rates of its tenant, and those of the lane, permit the jobs before it;
    /// - the wait until enough of its tenant's attempts have ended for its cap.
    pub(crate) fn estimated_wait_ms(
        &self,
        flow: &Flow,
        (ahead, cost): (u64, f64),
        now: Millis,
    ) -> Option<u64> {
        let rate = self.lane.current_drain_per_s(now);
        let unknown = TenantState::new(self.fixed.clone().unwrap_or_default());
        let tenant = self.tenants.get(&flow.tenant).unwrap_or(&unknown);
        let is_closed = self.lane.paused || self.lane.health.down().is_some();
        if rate <= 0.0 || is_closed || tenant.paused {
            return None;
        }
        // Each limit alone gives a lower bound, so the wait is the longest of them.
        let turns = self.turns(tenant, flow.class, ahead);
        let own = tenant.turns(flow.class, ahead);
        let of_tenant = tenant.meters.wait_behind(tenant.rates(), own - 1.0, cost, ms(now));
        let lane = &self.lane;
        let of_lane = lane.meters.wait_behind(lane.rates(), (turns - 1.0).max(0.0), cost, ms(now));
        let wait = (turns * 1000.0 / rate)
            .max(of_tenant)
            .max(of_lane)
            .max(ms(lane.not_before) - ms(now))
            .max(tenant.wait_for_slot(own));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        Some(wait.min(LONGEST_MS).floor() as u64)
    }

    /// Returns the estimated wait of a new standard job of average length behind `ahead` ready jobs of its tenant.
    pub(crate) fn estimated_wait_of_new(
        &self,
        tenant: &TenantId,
        ahead: u64,
        now: Millis,
    ) -> Option<u64> {
        let flow = Flow { class: Class::Standard, tenant: tenant.clone() };
        self.estimated_wait_ms(&flow, (ahead, self.lane.mean_completion()), now)
    }

    /// Returns the estimated milliseconds until `jobs` jobs of the lane have started; `None` as above.
    pub(crate) fn estimated_drain_ms(&self, jobs: u64, now: Millis) -> Option<u64> {
        let lane = &self.lane;
        let is_closed = lane.paused || lane.health.down().is_some();
        let drained = drain_ms(jobs, lane.current_drain_per_s(now)).filter(|_| !is_closed)?;
        let (before, cost) = (number(jobs) - 1.0, lane.mean_completion());
        let of_rates = lane.meters.wait_behind(lane.rates(), before, cost, ms(now));
        let wait = of_rates.max(ms(lane.not_before) - ms(now)).clamp(0.0, LONGEST_MS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        Some(drained.max(wait as u64))
    }

    /// Returns the number of the lane's jobs that start until this one has, itself included.
    fn turns(&self, tenant: &TenantState, class: Class, ahead: u64) -> f64 {
        let weight = fair::weight(class, &tenant.limits);
        let is_offered = tenant.classes[class.rank()].is_offered();
        let weights = self.lane.active_weight + if is_offered { 0.0 } else { weight };
        // Not more than all waiting jobs of the lane.
        ((number(ahead) + 1.0) * (weights / weight)).min(number(self.lane.queued))
    }
}

impl TenantState {
    /// Returns the number of the tenant's jobs, of all classes, that start until this one has, itself included.
    fn turns(&self, class: Class, ahead: u64) -> f64 {
        let weight = |class| fair::weight(class, &self.limits);
        let own = number(ahead) + 1.0;
        let others = Class::ALL.into_iter().filter(|other| *other != class);
        others.fold(own, |sum, other| {
            let ready = number(self.classes[other.rank()].len());
            sum + (own * (weight(other) / weight(class))).min(ready)
        })
    }

    /// Returns the milliseconds until the last of `turns` jobs finds a slot below the tenant's cap.
    fn wait_for_slot(&self, turns: f64) -> f64 {
        // A cap of 0 opens at no time that an estimate could name.
        let Some(cap) = self.limits.max_running.filter(|cap| *cap > 0) else { return 0.0 };
        let free = cap.saturating_sub(self.running);
        (turns - f64::from(free)) * self.attempt_ms / f64::from(cap)
    }
}
