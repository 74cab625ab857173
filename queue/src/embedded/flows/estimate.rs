//! In how long a waiting job should begin: what stands before it, at the pace of whatever is slowest.

use super::{
    Flow, Flows,
    owners::{Tenant, ms, number},
};
use crate::{clock::Millis, fair, id::TenantId, limits::drain_ms, state::Class};

/// No estimate is longer: 2^53, up to which every client can count.
const LONGEST_MS: f64 = 9_007_199_254_740_992.0;

impl Flows {
    /// In how many milliseconds a job that costs `cost` and has `ahead` jobs of its flow before it should
    /// begin; `None` while nothing was measured of late, while it is paused and while the lane is down. The longest of:
    ///
    /// - its turn, by weight, at the rate at which the lane's jobs end;
    /// - until the rates of its tenant, and those of the lane, let in as many as come before it;
    /// - until so many of its tenant's attempts have ended that its cap lets it in.
    pub(in crate::embedded) fn estimated_wait_ms(
        &self,
        flow: &Flow,
        (ahead, cost): (u64, f64),
        now: Millis,
    ) -> Option<u64> {
        let rate = self.lane.current_drain_per_s(now);
        let unknown = Tenant::new(self.fixed.clone().unwrap_or_default());
        let tenant = self.tenants.get(&flow.tenant).unwrap_or(&unknown);
        let is_closed = self.lane.paused || self.lane.health.down().is_some();
        if rate <= 0.0 || is_closed || tenant.paused {
            return None;
        }
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

    /// What a job of class standard would be told whose answer is as long as most, with so many of its
    /// tenant's ready ones of that class ahead.
    pub(in crate::embedded) fn estimated_wait_of_new(
        &self,
        tenant: &TenantId,
        ahead: u64,
        now: Millis,
    ) -> Option<u64> {
        let flow = Flow { class: Class::Standard, tenant: tenant.clone() };
        self.estimated_wait_ms(&flow, (ahead, self.lane.mean_completion()), now)
    }

    /// In how many milliseconds so many jobs of the lane should have begun; `None` as above.
    pub(in crate::embedded) fn estimated_drain_ms(&self, jobs: u64, now: Millis) -> Option<u64> {
        let lane = &self.lane;
        let is_closed = lane.paused || lane.health.down().is_some();
        let drained = drain_ms(jobs, lane.current_drain_per_s(now)).filter(|_| !is_closed)?;
        let (before, cost) = (number(jobs) - 1.0, lane.mean_completion());
        let of_rates = lane.meters.wait_behind(lane.rates(), before, cost, ms(now));
        let wait = of_rates.max(ms(lane.not_before) - ms(now)).clamp(0.0, LONGEST_MS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        Some(drained.max(wait as u64))
    }

    /// How many jobs of the lane begin until that one has, it included.
    fn turns(&self, tenant: &Tenant, class: Class, ahead: u64) -> f64 {
        let weight = fair::weight(class, &tenant.limits);
        let is_offered = tenant.classes[class.rank()].is_offered();
        let weights = self.lane.active_weight + if is_offered { 0.0 } else { weight };
        ((number(ahead) + 1.0) * (weights / weight)).min(number(self.lane.queued))
    }
}

impl Tenant {
    /// How many of its own jobs begin until that one has, it included: those of its other classes too.
    fn turns(&self, class: Class, ahead: u64) -> f64 {
        let weight = |class| fair::weight(class, &self.limits);
        let own = number(ahead) + 1.0;
        let others = Class::ALL.into_iter().filter(|other| *other != class);
        others.fold(own, |sum, other| {
            let ready = number(self.classes[other.rank()].len());
            sum + (own * (weight(other) / weight(class))).min(ready)
        })
    }

    /// In how many milliseconds the last of that many jobs finds a slot below its cap.
    fn wait_for_slot(&self, turns: f64) -> f64 {
        let Some(cap) = self.limits.max_running.filter(|cap| *cap > 0) else { return 0.0 };
        let free = cap.saturating_sub(self.running);
        (turns - f64::from(free)) * self.attempt_ms / f64::from(cap)
    }
}
