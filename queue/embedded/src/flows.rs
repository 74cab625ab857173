//! The order of service: tenants, their flows, and the one function that decides which flows are servable.
//!
//! Invariant: after [`Flows::place_touched`], `active` holds exactly the flows with ready jobs and an open tenant
//! (not paused, below its cap, within its rates); `parked` holds exactly the tenants with ready jobs that a rate
//! blocks until a known time.

mod estimate;
mod gates;
mod owners;
mod upkeep;

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

#[cfg(feature = "audit")]
pub(super) use self::owners::ClassState;
use self::owners::{LaneState, Score, TenantState};
pub(super) use self::owners::{ms, number};
use causeway_queue::{
    clock::Millis,
    fair::{self, LEARNING_RATE},
    id::TenantId,
    job::Usage,
    limits::TenantLimits,
    state::Class,
};

/// A class and a tenant: the key by which claims and releases find the flow of a job.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) class: Class,
    pub(super) tenant: TenantId,
}

/// The tenants and flows of a shard, and their order.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) lane: LaneState,
    tenants: HashMap<TenantId, TenantState, RandomState>,
    active: BTreeSet<(Score, usize, TenantId)>,
    parked: BTreeSet<(Score, TenantId)>,
    touched: Vec<TenantId>,
    /// The limits of every tenant, in a lane where only weights can be set.
    fixed: Option<TenantLimits>,
}

impl Flows {
    pub(super) fn new(fixed: Option<TenantLimits>) -> Self {
        Self {
            fixed,
            lane: LaneState::new(),
            tenants: HashMap::default(),
            active: BTreeSet::new(),
            parked: BTreeSet::new(),
            touched: Vec::new(),
        }
    }

    pub(super) fn tenant(&self, id: &TenantId) -> Option<&TenantState> {
        self.tenants.get(id)
    }

    /// Returns the limits of a tenant, known or new.
    pub(super) fn limits_of(&self, id: &TenantId) -> TenantLimits {
        let known = self.tenants.get(id).map(|tenant| tenant.limits.clone());
        known.or_else(|| self.fixed.clone()).unwrap_or_default()
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = (&TenantId, &TenantState)> {
        self.tenants.iter()
    }

    /// Returns the pauses: the whole shard (`None`), or a tenant in it.
    pub(super) fn paused(&self) -> Vec<Option<TenantId>> {
        let tenants = self.tenants.iter().filter(|(_, tenant)| tenant.paused);
        let tenants = tenants.map(|(id, _)| Some(id.clone()));
        tenants.chain(self.lane.paused.then_some(None)).collect()
    }

    /// Returns a tenant to change: the next `place_touched` places its flows again.
    pub(super) fn touch(&mut self, id: &TenantId) -> &mut TenantState {
        let limits = || TenantState::new(self.fixed.clone().unwrap_or_default());
        let tenant = self.tenants.entry(id.clone()).or_insert_with(limits);
        if !tenant.touched {
            tenant.touched = true;
            self.touched.push(id.clone());
        }
        tenant
    }

    /// Decides for every touched tenant which of its flows are offered. No other function does.
    pub(super) fn place_touched(&mut self, now: Millis) {
        let mut entering = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            self.place(id, now, &mut entering);
        }
        self.enter(entering);
    }

    /// Moves the flows of a tenant within `active`, or removes them; collects those that enter it.
    fn place(&mut self, id: TenantId, now: Millis, entering: &mut Vec<Flow>) {
        let Some(tenant) = self.tenants.get_mut(&id) else { return };
        tenant.touched = false;
        let open_at = tenant.open_at();
        let open = open_at.is_some_and(|at| at <= ms(now));
        for class in Class::ALL {
            let weight = fair::weight(class, &tenant.limits);
            let state = &mut tenant.classes[class.rank()];
            let wanted = open && !state.ready.is_empty();
            // Removed under its old tag before it is inserted again: the set is ordered by the tag.
            if let Some(score) = state.offered.take() {
                self.active.remove(&(score, class.rank(), id.clone()));
                if wanted {
                    state.offered = Some(Score(state.tag));
                    self.active.insert((Score(state.tag), class.rank(), id.clone()));
                } else {
                    self.lane.active_weight -= weight;
                }
            } else if wanted {
                entering.push(Flow { class, tenant: id.clone() });
            }
        }
        let parked = open_at.filter(|_| !open && tenant.has_ready()).map(Score);
        if let Some(score) = std::mem::replace(&mut tenant.parked, parked) {
            self.parked.remove(&(score, id.clone()));
        }
        if let Some(score) = parked {
            self.parked.insert((score, id));
        }
    }

    /// Inserts flows into `active`. A flow gains nothing by its absence: its tag is raised to virtual time, or to the
    /// lowest tag in `active` if that is lower, because attempts cost less than estimated.
    fn enter(&mut self, entering: Vec<Flow>) {
        let first = self.active.first().map_or(f64::INFINITY, |(score, _, _)| score.0);
        let floor = self.lane.vtime.min(first);
        for Flow { class, tenant: id } in entering {
            let Some(tenant) = self.tenants.get_mut(&id) else { continue };
            let state = &mut tenant.classes[class.rank()];
            state.tag = state.tag.max(floor);
            state.offered = Some(Score(state.tag));
            self.active.insert((Score(state.tag), class.rank(), id));
            self.lane.active_weight += fair::weight(class, &tenant.limits);
        }
    }

    /// Inserts a job into its flow's ready set.
    pub(super) fn make_ready(&mut self, flow: &Flow, order: u64, key: u128) {
        let state = &mut self.touch(&flow.tenant).classes[flow.class.rank()];
        let place = state.before(order);
        state.ready.insert(place, (order, key));
    }

    /// Removes a job from its flow's ready set.
    pub(super) fn withdraw_ready(&mut self, flow: &Flow, order: u64) {
        let state = &mut self.touch(&flow.tenant).classes[flow.class.rank()];
        let place = state.before(order);
        if state.ready.get(place).is_some_and(|(found, _)| *found == order) {
            state.ready.remove(place);
        }
    }

    /// Touches at most `at_most` parked tenants after their rates permit an attempt again.
    pub(super) fn promote_parked(&mut self, now: Millis, at_most: usize) {
        let due: Vec<TenantId> = self
            .parked
            .iter()
            .take_while(|(at, _)| at.0 <= ms(now))
            .take(at_most)
            .map(|(_, id)| id.clone())
            .collect();
        for id in due {
            self.touch(&id);
        }
    }

    /// Returns the time at which the first parked tenant may continue.
    pub(super) fn next_parked(&self) -> Option<f64> {
        self.parked.first().map(|(at, _)| at.0)
    }

    /// Returns the flow that is served next, and its first job.
    pub(super) fn first(&self) -> Option<(Flow, u128)> {
        let (_, rank, tenant) = self.active.first()?;
        let key = self.tenants.get(tenant)?.classes[*rank].front()?;
        Some((Flow { class: Class::ALL[*rank], tenant: tenant.clone() }, key))
    }

    /// Returns all flows.
    pub(super) fn all(&self) -> Vec<Flow> {
        let of = |tenant: &TenantId| Class::ALL.map(|class| Flow { class, tenant: tenant.clone() });
        self.tenants.keys().flat_map(of).collect()
    }

    /// Returns the first ready jobs of a flow, at most `most`.
    pub(super) fn first_ready(&self, flow: &Flow, most: usize) -> Vec<u128> {
        let tenant = self.tenants.get(&flow.tenant);
        tenant.map_or(Vec::new(), |tenant| tenant.classes[flow.class.rank()].first(most))
    }

    /// Returns true if a flow can be served.
    pub(super) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Starts an attempt of the first flow: advances virtual time and charges the estimate.
    pub(super) fn serve(&mut self, flow: &Flow, cost: u64, now: Millis) {
        let cost = number(cost);
        let lane_rates = self.lane.rates();
        self.lane.running += 1;
        self.lane.queued -= 1;
        // The estimate is charged at the start and corrected at the end.
        self.lane.meters.charge(lane_rates, cost, ms(now));
        let tenant = self.touch(&flow.tenant);
        tenant.running += 1;
        tenant.queued -= 1;
        let rates = tenant.rates();
        tenant.meters.charge(rates, cost, ms(now));
        let weight = fair::weight(flow.class, &tenant.limits);
        let state = &mut tenant.classes[flow.class.rank()];
        state.ready.pop_front();
        // Virtual time leaves out unsettled cost: see `fair`.
        let settled = state.tag - state.unsettled / weight;
        state.tag += cost / weight;
        state.unsettled += cost;
        self.lane.vtime = self.lane.vtime.max(settled);
        // The next pop of the same claim must see the new tag.
        self.place_touched(now);
    }

    /// Ends an attempt: frees its slot and replaces the estimate by the actual cost.
    pub(super) fn release(&mut self, flow: &Flow, estimate: u64, actual: u64) {
        let estimate = number(estimate);
        let difference = number(actual) - estimate;
        let lane_rates = self.lane.rates();
        // Saturating: `recount` may have corrected the count while this attempt ran.
        self.lane.running = self.lane.running.saturating_sub(1);
        self.lane.meters.correct(lane_rates, difference);
        let tenant = self.touch(&flow.tenant);
        tenant.running = tenant.running.saturating_sub(1);
        let rates = tenant.rates();
        tenant.meters.correct(rates, difference);
        let weight = fair::weight(flow.class, &tenant.limits);
        let state = &mut tenant.classes[flow.class.rank()];
        state.tag += difference / weight;
        state.unsettled -= estimate;
    }

    /// Charges a flow as if it had used `cost` tokens, so that other flows go first: it had a failure that may be its
    /// own.
    pub(super) fn fall_behind(&mut self, flow: &Flow, cost: u64) {
        let tenant = self.touch(&flow.tenant);
        let weight = fair::weight(flow.class, &tenant.limits);
        tenant.classes[flow.class.rank()].tag += number(cost) / weight;
    }

    /// Updates the mean duration of a tenant's attempts by one that started at `started`.
    pub(super) fn learn_duration(&mut self, id: &TenantId, started: Millis, now: Millis) {
        self.touch(id).learn((ms(now) - ms(started)).max(0.0));
    }

    /// Updates the mean length of answers by one answer.
    pub(super) fn learn(&mut self, usage: Usage) {
        let surprise = number(usage.completion_tokens) - self.lane.mean_completion;
        self.lane.mean_completion += surprise * LEARNING_RATE;
    }
}

/// Access for the audit.
#[cfg(feature = "audit")]
impl Flows {
    pub(super) fn vtime(&self) -> f64 {
        self.lane.vtime
    }

    pub(super) fn active_weight(&self) -> f64 {
        self.lane.active_weight
    }

    pub(super) fn active_len(&self) -> usize {
        self.active.len()
    }

    pub(super) fn is_parked(&self, id: &TenantId) -> bool {
        self.parked.iter().any(|(_, parked)| parked == id)
    }

    pub(super) fn is_ready(&self, flow: &Flow, order: u64, key: u128) -> bool {
        let tenant = self.tenants.get(&flow.tenant);
        tenant.is_some_and(|one| one.classes[flow.class.rank()].ready.contains(&(order, key)))
    }

    pub(super) fn stands_where_it_says(&self, id: &TenantId, class: Class) -> bool {
        let state = self.tenants.get(id).map(|tenant| &tenant.classes[class.rank()]);
        state.and_then(|state| Some((state.offered?, state.tag))).is_none_or(|(score, tag)| {
            score.0 == tag && self.active.contains(&(score, class.rank(), id.clone()))
        })
    }
}
