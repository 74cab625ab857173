//! A check of the engine's invariants from outside its transitions. For tests.

use std::collections::BTreeMap;

use super::{
    engine::Engine,
    flows::{ClassState, Flows, number},
    record::Place,
};
use causeway_queue::audit::Audit;
use causeway_queue::{clock::Millis, id::TenantId, state::Class};

impl Engine {
    pub(super) fn audit(&self, now: Millis) -> Audit {
        let mut audit = Audit { faults: Vec::new(), vtime: self.flows.vtime() };
        let faults = &mut audit.faults;
        let mut check = |ok: bool, what: String| {
            if !ok {
                faults.push(what);
            }
        };
        let mut waiting: BTreeMap<&TenantId, [u64; 3]> = BTreeMap::new();
        let mut unsettled: BTreeMap<&TenantId, [f64; 3]> = BTreeMap::new();
        for (key, job) in &self.jobs {
            let id = &job.id;
            // A job must be in the set of its place, and in no other.
            let is_ready = self.flows.is_ready(&job.flow(), job.order, *key);
            let is_due = self.due.iter().any(|(_, other)| other == key);
            let is_leased = self.leases.iter().any(|(_, other)| other == key);
            let wanted = match job.place {
                Place::Ready => (true, false, false),
                Place::Due { .. } => (false, true, false),
                Place::Running { .. } => (false, false, true),
                Place::Held | Place::Ended { .. } => (false, false, false),
            };
            check((is_ready, is_due, is_leased) == wanted, format!("{id} is not where it says"));
            // Waiting, leased and due jobs of the tenant.
            let counts = waiting.entry(&job.tenant).or_default();
            let is_live = !job.status().is_terminal();
            counts[0] += u64::from(is_live && !is_leased);
            counts[1] += u64::from(is_leased);
            counts[2] += u64::from(is_due);
            if is_leased {
                unsettled.entry(&job.tenant).or_default()[job.class.rank()] += number(job.cost);
            }
            if let Some(session) = &job.session {
                let place = self.sessions.place(&job.tenant, session, *key);
                check(place.is_some() == is_live, format!("{id} and its session disagree"));
                let is_held = matches!(job.place, Place::Held);
                check(!is_live || (place == Some(0)) != is_held, format!("{id} is out of order"));
            }
        }
        if let Some((key, epoch)) = self.flows.lane.health.probe() {
            let probing = self.jobs.get(&key).filter(|job| job.epoch == epoch);
            let runs = probing.is_some_and(|job| matches!(job.place, Place::Running { .. }));
            check(runs, "the probe is no lease".to_owned());
        }
        let sum = |n: usize| waiting.values().map(|counts| counts[n]).sum::<u64>();
        let lane = &self.flows.lane;
        let totals = [lane.queued, lane.running.into(), self.due.len() as u64];
        check(totals == [sum(0), sum(1), sum(2)], format!("the lane counts {totals:?}"));
        for (id, tenant) in self.flows.tenants() {
            let counted = [tenant.queued, tenant.running.into(), tenant.scheduled];
            let wanted = waiting.get(id).copied().unwrap_or_default();
            check(counted == wanted, format!("{id} counts {counted:?}, not {wanted:?}"));
            let counted = tenant.classes.each_ref().map(|class| class.unsettled);
            let wanted = unsettled.get(id).copied().unwrap_or_default();
            check(
                counted == wanted,
                format!("{id} takes {counted:?} for unsettled, not {wanted:?}"),
            );
        }
        audit.faults.extend(self.flows.audit(now));
        audit
    }

    /// Returns the names of all stored data, visible or not.
    pub(super) fn kept(&self) -> Vec<String> {
        let jobs = self.jobs.values().map(|job| format!("job:{}", job.id));
        let tenants = self.flows.tenants().map(|(tenant, _)| format!("tenant:{tenant}"));
        let keys = self.known.keys().map(|(tenant, key)| format!("key:{tenant}:{key}"));
        let conversations = self.sessions.held();
        let conversations =
            conversations.map(|(tenant, session)| format!("talk:{tenant}:{session}"));
        let mut kept: Vec<String> = jobs.chain(tenants).chain(keys).chain(conversations).collect();
        kept.sort_unstable();
        kept
    }

    /// Adds one to the counts of running jobs, of the lane and of each tenant.
    pub(super) fn miscount(&mut self) {
        self.flows.lane.running += 1;
        let tenants: Vec<TenantId> =
            self.flows.tenants().map(|(tenant, _)| tenant.clone()).collect();
        for tenant in &tenants {
            self.flows.touch(tenant).running += 1;
        }
    }
}

impl Flows {
    /// Returns the differences between `active`, `parked`, the sum of weights, and the tenants.
    fn audit(&self, now: Millis) -> Vec<String> {
        let mut faults = Vec::new();
        let mut weights = 0.0;
        let mut offered = 0;
        for (id, tenant) in self.tenants() {
            let parked = self.is_parked(id);
            for class in Class::ALL {
                let state = &tenant.classes[class.rank()];
                // Exactly the servable flows are offered, unless a rate parks their tenant.
                let servable = !state.is_empty() && tenant.may_open();
                if state.is_offered() {
                    offered += 1;
                    weights += causeway_queue::fair::weight(class, &tenant.limits);
                    if !servable {
                        faults.push(format!("{class}:{id} is offered and cannot be served"));
                    }
                } else if servable && !parked {
                    faults.push(format!("{class}:{id} can be served and is not offered"));
                }
                if !self.stands_where_it_says(id, class) {
                    faults.push(format!("{class}:{id} is offered under an old tag"));
                }
            }
            if parked && (tenant.classes.iter().any(ClassState::is_offered)) {
                faults.push(format!("{id} is parked for nothing at {now:?}"));
            }
        }
        if offered != self.active_len() {
            faults.push("active holds strangers".to_owned());
        }
        if (weights - self.active_weight()).abs() > 1e-6 {
            faults.push(format!("the sum of weights is {}, not {weights}", self.active_weight()));
        }
        faults
    }
}
