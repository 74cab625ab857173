//! Who is served next: tenants, their flows, and the one function that decides what is servable.
//!
//! Invariant: after [`Flows::place_touched`], `active` holds exactly the flows whose tenant is open
//! (not paused, below its cap, within its rates) and that have ready jobs; `parked` holds exactly
//! the tenants with ready jobs that a rate keeps closed until a known time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::{
    backend::Repairs,
    clock::Millis,
    fair::{self, FIRST_COMPLETION_GUESS, LEARNING_RATE},
    id::TenantId,
    job::Usage,
    limits::{Allowance, Headroom, LaneLimits, MINUTE_MS, TenantLimits},
    state::Class,
};

/// How long the drain rate is measured before it is mixed into the mean, in milliseconds.
const DRAIN_WINDOW_MS: f64 = 2000.0;

/// A number that sorts: a tag of virtual time, or a moment in milliseconds. Never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score(pub(super) f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// `moment` as a number that rates can be computed with.
#[expect(clippy::cast_precision_loss, reason = "milliseconds lie below 2^53")]
pub(super) fn ms(moment: Millis) -> f64 {
    moment.0 as f64
}

#[expect(clippy::cast_precision_loss, reason = "token counts lie below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Two rates of one owner: attempts and tokens per minute. See [`crate::limits`].
#[derive(Debug, Clone, Copy, Default)]
struct Meters {
    requests_tat: f64,
    tokens_tat: f64,
}

/// The bounds that [`Meters`] are held against.
#[derive(Debug, Clone, Copy)]
struct Rates {
    requests: Option<f64>,
    tokens: Option<f64>,
}

impl Meters {
    /// When the next attempt may begin. Attempts: one must fit into the bucket. Tokens: the bucket
    /// must not be empty; a job larger than what is left overdraws it, and the debt is waited for.
    fn open_at(&self, rates: Rates) -> f64 {
        let requests =
            rates.requests.map_or(0.0, |limit| self.requests_tat - (MINUTE_MS - MINUTE_MS / limit));
        let tokens = rates.tokens.map_or(0.0, |_| self.tokens_tat - MINUTE_MS + 1.0);
        requests.max(tokens)
    }

    fn charge(&mut self, rates: Rates, cost: f64, now: f64) {
        if let Some(limit) = rates.requests {
            self.requests_tat = self.requests_tat.max(now) + MINUTE_MS / limit;
        }
        if let Some(limit) = rates.tokens {
            self.tokens_tat = self.tokens_tat.max(now) + cost * MINUTE_MS / limit;
        }
    }

    fn correct(&mut self, rates: Rates, difference: f64) {
        if let Some(limit) = rates.tokens {
            self.tokens_tat += difference * MINUTE_MS / limit;
        }
    }
}

impl Tenant {
    /// What is left of its rates.
    pub(super) fn allowance(&self, now: Millis) -> Allowance {
        let now = ms(now);
        let headroom = |limit: u64, tat: f64| Headroom::new(limit, (tat - now).max(0.0));
        Allowance {
            requests: self
                .limits
                .requests_per_minute
                .map(|limit| headroom(limit.into(), self.meters.requests_tat)),
            tokens: self
                .limits
                .tokens_per_minute
                .map(|limit| headroom(limit, self.meters.tokens_tat)),
        }
    }
}

/// What a claim or a release needs to know about its job.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) class: Class,
    pub(super) tenant: TenantId,
}

/// One tenant's part of the shard.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) limits: TenantLimits,
    pub(super) configured: bool,
    pub(super) paused: bool,
    pub(super) running: u32,
    pub(super) queued: u64,
    /// Of the queued, those that wait for a time.
    pub(super) scheduled: u64,
    meters: Meters,
    pub(super) classes: [ClassState; 3],
    parked: Option<Score>,
    touched: bool,
}

/// One flow.
#[derive(Debug, Default)]
pub(super) struct ClassState {
    tag: f64,
    /// The ready jobs by their order, which a retry returns to.
    ready: VecDeque<(u64, u128)>,
    /// Under which tag it stands in `active`.
    offered: Option<Score>,
}

impl ClassState {
    /// How many ready jobs stand before `order`.
    pub(super) fn before(&self, order: u64) -> usize {
        self.ready.partition_point(|(other, _)| *other < order)
    }

    /// Whether it stands in `active`.
    pub(super) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// The ready job that runs first.
    pub(super) fn front(&self) -> Option<u128> {
        self.ready.front().map(|(_, key)| *key)
    }
}

impl Tenant {
    fn new() -> Self {
        Self {
            limits: TenantLimits::default(),
            configured: false,
            paused: false,
            running: 0,
            queued: 0,
            scheduled: 0,
            meters: Meters::default(),
            classes: Default::default(),
            parked: None,
            touched: false,
        }
    }

    fn rates(&self) -> Rates {
        Rates {
            requests: self.limits.requests_per_minute.map(f64::from),
            tokens: self.limits.tokens_per_minute.map(number),
        }
    }

    /// When the tenant may begin another attempt; `None` when only another transition can tell.
    fn open_at(&self) -> Option<f64> {
        let at_cap = self.limits.max_running.is_some_and(|cap| self.running >= cap);
        (!self.paused && !at_cap).then(|| self.meters.open_at(self.rates()))
    }

    /// Whether the tenant may begin another attempt now.
    pub(super) fn is_open(&self, now: Millis) -> bool {
        self.open_at().is_some_and(|at| at <= ms(now))
    }

    /// Which of its flows stand in `active`.
    fn offers(&self) -> [bool; 3] {
        self.classes.each_ref().map(ClassState::is_offered)
    }

    fn has_ready(&self) -> bool {
        self.classes.iter().any(|class| !class.ready.is_empty())
    }
}

/// What all tenants of the shard share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) limits: LaneLimits,
    pub(super) paused: bool,
    pub(super) not_before: Millis,
    pub(super) running: u32,
    pub(super) queued: u64,
    vtime: f64,
    meters: Meters,
    mean_completion: f64,
    /// The sum of the weights of all flows in `active`.
    active_weight: f64,
    drain: Drain,
}

/// How many jobs end per second while others wait: a mean over windows, halved in weight with each.
/// What ends while nobody waits says how much is asked for, not how much could be done: it is not
/// counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drain {
    /// The last end that was counted; 0 when nobody waited then.
    last: f64,
    /// How long was counted, in milliseconds, and how many ends.
    elapsed: f64,
    ended: f64,
    pub(super) per_s: f64,
}

impl Drain {
    fn count(&mut self, now: f64, is_backlogged: bool) {
        if !is_backlogged {
            self.last = 0.0;
            return;
        }
        if self.last > 0.0 {
            self.elapsed += now - self.last;
            self.ended += 1.0;
        }
        self.last = now;
        if self.elapsed >= DRAIN_WINDOW_MS {
            let measured = self.ended * 1000.0 / self.elapsed;
            self.per_s = if self.per_s > 0.0 { (self.per_s + measured) / 2.0 } else { measured };
            (self.elapsed, self.ended) = (0.0, 0.0);
        }
    }
}

impl Lane {
    fn rates(&self) -> Rates {
        Rates {
            requests: self.limits.requests_per_minute.map(f64::from),
            tokens: self.limits.tokens_per_minute.map(number),
        }
    }

    /// When the lane may begin another attempt; `None` when only another transition can tell.
    pub(super) fn open_at(&self) -> Option<f64> {
        let at_cap = self.limits.max_running.is_some_and(|cap| self.running >= cap);
        let at = self.meters.open_at(self.rates()).max(ms(self.not_before));
        (!self.paused && !at_cap).then_some(at)
    }

    pub(super) fn is_open(&self, now: Millis) -> bool {
        self.open_at().is_some_and(|at| at <= ms(now))
    }

    /// The running mean of completion tokens.
    pub(super) fn mean_completion(&self) -> f64 {
        self.mean_completion
    }

    pub(super) fn drain_per_s(&self) -> f64 {
        self.drain.per_s
    }

    pub(super) fn count_ended(&mut self, now: Millis) {
        self.drain.count(ms(now), self.queued > 0);
    }
}

/// The order of the shard.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) lane: Lane,
    tenants: HashMap<TenantId, Tenant>,
    active: BTreeSet<(Score, usize, TenantId)>,
    parked: BTreeSet<(Score, TenantId)>,
    touched: Vec<TenantId>,
}

impl Flows {
    pub(super) fn new() -> Self {
        let lane = Lane {
            limits: LaneLimits::default(),
            paused: false,
            not_before: Millis(0),
            running: 0,
            queued: 0,
            vtime: 0.0,
            meters: Meters::default(),
            mean_completion: FIRST_COMPLETION_GUESS,
            active_weight: 0.0,
            drain: Drain::default(),
        };
        Self {
            lane,
            tenants: HashMap::new(),
            active: BTreeSet::new(),
            parked: BTreeSet::new(),
            touched: Vec::new(),
        }
    }

    pub(super) fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = (&TenantId, &Tenant)> {
        self.tenants.iter()
    }

    /// The tenant, to be changed: its flows are placed anew by the next `place_touched`.
    pub(super) fn touch(&mut self, id: &TenantId) -> &mut Tenant {
        let tenant = self.tenants.entry(id.clone()).or_insert_with(Tenant::new);
        if !tenant.touched {
            tenant.touched = true;
            self.touched.push(id.clone());
        }
        tenant
    }

    /// Decides for every touched tenant which of its flows are offered: the only place that does.
    pub(super) fn place_touched(&mut self, now: Millis) {
        for id in std::mem::take(&mut self.touched) {
            self.place(&id, now);
        }
    }

    fn place(&mut self, id: &TenantId, now: Millis) {
        let Some(tenant) = self.tenants.get_mut(id) else { return };
        tenant.touched = false;
        let open_at = tenant.open_at();
        let open = open_at.is_some_and(|at| at <= ms(now));
        for class in Class::ALL {
            let weight = fair::weight(class, &tenant.limits);
            let state = &mut tenant.classes[class.rank()];
            let wanted = open && !state.ready.is_empty();
            if let Some(score) = state.offered.take() {
                self.active.remove(&(score, class.rank(), id.clone()));
                self.lane.active_weight -= weight;
            } else if wanted {
                // A flow that was away gains nothing by it: it returns no earlier than now.
                state.tag = state.tag.max(self.lane.vtime);
            }
            if wanted {
                state.offered = Some(Score(state.tag));
                self.active.insert((Score(state.tag), class.rank(), id.clone()));
                self.lane.active_weight += weight;
            }
        }
        let parked = open_at.filter(|_| !open && tenant.has_ready()).map(Score);
        if let Some(score) = std::mem::replace(&mut tenant.parked, parked) {
            self.parked.remove(&(score, id.clone()));
        }
        if let Some(score) = parked {
            self.parked.insert((score, id.clone()));
        }
    }

    /// Puts a job into its flow's ready set.
    pub(super) fn make_ready(&mut self, flow: &Flow, order: u64, key: u128) {
        let state = &mut self.touch(&flow.tenant).classes[flow.class.rank()];
        let place = state.before(order);
        state.ready.insert(place, (order, key));
    }

    /// Takes a job out of its flow's ready set.
    pub(super) fn withdraw_ready(&mut self, flow: &Flow, order: u64) {
        let state = &mut self.touch(&flow.tenant).classes[flow.class.rank()];
        let place = state.before(order);
        if state.ready.get(place).is_some_and(|(found, _)| *found == order) {
            state.ready.remove(place);
        }
    }

    /// Touches up to `at_most` tenants whose rate lets them go on.
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

    /// When the first parked tenant may go on.
    pub(super) fn next_parked(&self) -> Option<f64> {
        self.parked.first().map(|(at, _)| at.0)
    }

    /// The flow that is served next, and its first job.
    pub(super) fn first(&self) -> Option<(Flow, u128)> {
        let (_, rank, tenant) = self.active.first()?;
        let key = self.tenants.get(tenant)?.classes[*rank].front()?;
        Some((Flow { class: Class::ALL[*rank], tenant: tenant.clone() }, key))
    }

    /// Whether some flow can be served.
    pub(super) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Begins an attempt of the flow that stands first: moves virtual time, charges the estimate.
    pub(super) fn serve(&mut self, flow: &Flow, cost: u64, now: Millis) {
        let cost = number(cost);
        let lane_rates = self.lane.rates();
        self.lane.running += 1;
        self.lane.queued -= 1;
        self.lane.meters.charge(lane_rates, cost, ms(now));
        let tenant = self.touch(&flow.tenant);
        tenant.running += 1;
        tenant.queued -= 1;
        let rates = tenant.rates();
        tenant.meters.charge(rates, cost, ms(now));
        let weight = fair::weight(flow.class, &tenant.limits);
        let state = &mut tenant.classes[flow.class.rank()];
        state.ready.pop_front();
        let start = state.tag;
        state.tag = start + cost / weight;
        self.lane.vtime = self.lane.vtime.max(start);
        self.place_touched(now);
    }

    /// Ends an attempt: frees the slot and settles what it really cost.
    pub(super) fn release(&mut self, flow: &Flow, estimate: u64, actual: u64) {
        let difference = number(actual) - number(estimate);
        let lane_rates = self.lane.rates();
        self.lane.running = self.lane.running.saturating_sub(1);
        self.lane.meters.correct(lane_rates, difference);
        let tenant = self.touch(&flow.tenant);
        tenant.running = tenant.running.saturating_sub(1);
        let rates = tenant.rates();
        tenant.meters.correct(rates, difference);
        let weight = fair::weight(flow.class, &tenant.limits);
        tenant.classes[flow.class.rank()].tag += difference / weight;
    }

    /// Learns from an answer how long answers are.
    pub(super) fn learn(&mut self, usage: Usage) {
        let surprise = number(usage.completion_tokens) - self.lane.mean_completion;
        self.lane.mean_completion += surprise * LEARNING_RATE;
    }

    /// Replaces the bounds of tenants; those that were configured before and are not named get the
    /// default.
    pub(super) fn set_tenant_limits(&mut self, tenants: &[(TenantId, TenantLimits)], now: Millis) {
        let before: Vec<TenantId> = self
            .tenants
            .iter()
            .filter(|(_, tenant)| tenant.configured)
            .map(|(id, _)| id.clone())
            .collect();
        for id in before {
            self.set_one(&id, TenantLimits::default(), false, now);
        }
        for (id, limits) in tenants {
            self.set_one(id, limits.clone(), true, now);
        }
    }

    fn set_one(&mut self, id: &TenantId, limits: TenantLimits, configured: bool, now: Millis) {
        // Leave `active` under the old weight, so that the sum of weights stays right.
        self.withdraw(id);
        let tenant = self.touch(id);
        tenant.limits = limits;
        tenant.configured = configured;
        self.place_touched(now);
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

    /// In how many milliseconds the job with `ahead` jobs of its flow before it should start: the
    /// flow's share of the measured drain rate, by weight. `None` while nothing was measured.
    pub(super) fn estimated_wait_ms(&self, flow: &Flow, ahead: u64) -> Option<u64> {
        let rate = self.lane.drain.per_s;
        if rate <= 0.0 {
            return None;
        }
        let tenant = self.tenants.get(&flow.tenant)?;
        let weight = fair::weight(flow.class, &tenant.limits);
        let turns = (number(ahead) + 1.0) * (self.lane.active_weight / weight).max(1.0);
        let before = turns.min(number(self.lane.queued));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        Some((before * 1000.0 / rate).floor() as u64)
    }

    /// Sets every count of running jobs to what the leases say, and places every tenant anew;
    /// answers with what differed.
    pub(super) fn recount(&mut self, leases: &HashMap<TenantId, u32>, now: Millis) -> Repairs {
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
    pub(super) fn forget_idle(&mut self, now: Millis, is_listed: impl Fn(&TenantId) -> bool) {
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

/// What an audit looks at.
#[cfg(feature = "conformance")]
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

#[cfg(feature = "conformance")]
impl ClassState {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(feature = "conformance")]
impl Tenant {
    /// Whether only its rates may keep it closed.
    pub(super) fn may_open(&self) -> bool {
        self.open_at().is_some()
    }
}
