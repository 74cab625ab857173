//! Operations on many tenants at once: new limits, recounts, deletion.

use std::collections::HashMap;

use super::{Flows, ms, owners::TenantState};
use causeway_queue::{
    backend::Repairs,
    clock::Millis,
    fair,
    id::TenantId,
    limits::{LaneLimits, TenantLimits},
    state::Class,
};

impl Flows {
    /// Sets the limits of the lane and of tenants. A tenant missing from the list keeps its limits until it is idle.
    /// An empty list changes no tenant, because it may come from a process that knows no tenants.
    pub(crate) fn set_limits(
        &mut self,
        lane: LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
        now: Millis,
    ) {
        for tenant in self.tenants.values_mut().filter(|_| !tenants.is_empty()) {
            tenant.configured = false;
        }
        let before = self.lane.rates();
        self.lane.limits = lane;
        self.lane.meters.change_rates(before, self.lane.rates(), ms(now));
        for (id, limits) in tenants {
            let fixed = self.fixed.clone();
            let limits = fixed.map_or_else(
                || limits.clone(),
                |fixed| TenantLimits { weight: limits.weight, ..fixed },
            );
            // Removed from `active` under the old weight, so that the sum of weights stays correct.
            self.withdraw(id);
            let tenant = self.touch(id);
            // The mean is kept for tenants with a cap only; an old value would mislead a later estimate.
            if limits.max_running.is_none() {
                tenant.attempt_ms = 0.0;
            }
            let before = tenant.rates();
            tenant.change_weight(limits.weight);
            tenant.limits = limits;
            tenant.configured = true;
            let rates = tenant.rates();
            tenant.meters.change_rates(before, rates, ms(now));
            self.place_touched(now);
        }
    }

    /// Removes a tenant's flows from `active`; their tags stay.
    fn withdraw(&mut self, id: &TenantId) {
        let Some(tenant) = self.tenants.get_mut(id) else { return };
        for class in Class::ALL {
            let weight = fair::weight(class, &tenant.limits);
            if let Some(score) = tenant.classes[class.rank()].offered.take() {
                self.active.remove(&(score, class.rank(), id.clone()));
                self.lane.active_weight -= weight;
            }
        }
    }

    /// Sets every count of running jobs to the number of leases, and places every tenant again; returns the number of
    /// differences.
    pub(crate) fn recount(&mut self, leases: &HashMap<TenantId, u32>, now: Millis) -> Repairs {
        let mut repairs = Repairs::default();
        let ids: Vec<TenantId> = self.tenants.keys().cloned().collect();
        for id in ids {
            let counted = leases.get(&id).copied().unwrap_or(0);
            let offered = |flows: &Self| flows.tenants.get(&id).map(TenantState::offers);
            // If the placement changes an offer, that was wrong before.
            let before = offered(self);
            let tenant = self.touch(&id);
            if tenant.running != counted {
                tenant.running = counted;
                repairs.running += 1;
            }
            self.place_touched(now);
            repairs.flows += u64::from(before != offered(self));
        }
        let counted = leases.values().sum();
        repairs.running += u64::from(self.lane.running != counted);
        self.lane.running = counted;
        repairs
    }

    /// Deletes idle tenants: without jobs, without a tag ahead of virtual time, and without a used rate. Deleting any
    /// other would lift its debt.
    pub(crate) fn forget_idle(&mut self, now: Millis, is_listed: impl Fn(&TenantId) -> bool) {
        let vtime = self.lane.vtime;
        self.tenants.retain(|id, tenant| {
            tenant.configured
                || tenant.paused
                || tenant.running > 0
                || tenant.queued > 0
                || tenant.classes.iter().any(|class| class.tag > vtime)
                || tenant.meters.requests_tat > ms(now)
                || tenant.meters.tokens_tat > ms(now)
                || is_listed(id)
        });
    }
}
