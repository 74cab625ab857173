//! What is done to many tenants at once: new bounds, recounts, forgetting.

use std::collections::HashMap;

use super::{Flows, ms, owners::Tenant};
use crate::{
    backend::Repairs,
    clock::Millis,
    fair,
    id::TenantId,
    limits::{LaneLimits, TenantLimits},
    state::Class,
};

impl Flows {
    /// Sets the bounds of the lane and of tenants. Those that were configured before and are not named
    /// keep what they have: until nothing of them is left, or where none is named, as by a process
    /// that knows of none.
    pub(in crate::embedded) fn set_limits(
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
            // Leave `active` under the old weight, so that the sum of weights stays right.
            self.withdraw(id);
            let tenant = self.touch(id);
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

    /// Takes a tenant's flows out of `active`; their tags stay.
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

    /// Sets every count of running jobs to what the leases say, and places every tenant anew;
    /// answers with what differed.
    pub(in crate::embedded) fn recount(
        &mut self,
        leases: &HashMap<TenantId, u32>,
        now: Millis,
    ) -> Repairs {
        let mut repairs = Repairs::default();
        let ids: Vec<TenantId> = self.tenants.keys().cloned().collect();
        for id in ids {
            let counted = leases.get(&id).copied().unwrap_or(0);
            let offered = |flows: &Self| flows.tenants.get(&id).map(Tenant::offers);
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

    /// Forgets tenants that hold nothing: no jobs, no tag ahead of virtual time, no rate in use.
    pub(in crate::embedded) fn forget_idle(
        &mut self,
        now: Millis,
        is_listed: impl Fn(&TenantId) -> bool,
    ) {
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
