//! The state of a lane and of its tenants in one shard, and the time at which each may start another attempt.

use std::collections::VecDeque;

use crate::health::Health;
use causeway_queue::{
    clock::Millis,
    fair::{
        self, DRAIN_GAPS, DRAIN_OUTDATED_MS, DRAIN_WINDOW_MS, FIRST_COMPLETION_GUESS, LEARNING_RATE,
    },
    job::AttemptError,
    limits::{Allowance, Headroom, LaneLimits, MINUTE_MS, TenantLimits},
    state::Class,
    waiting::Down,
};

/// One tenant's part of the shard.
#[derive(Debug)]
pub(crate) struct TenantState {
    pub(crate) limits: TenantLimits,
    pub(crate) configured: bool,
    pub(crate) paused: bool,
    pub(crate) running: u32,
    pub(crate) queued: u64,
    /// The queued jobs that wait for their start time or retry.
    pub(crate) scheduled: u64,
    pub(super) meters: Meters,
    /// The mean duration of its attempts; 0 while it has no cap, or until the first one has ended.
    pub(super) attempt_ms: f64,
    pub(crate) classes: [ClassState; 3],
    pub(super) parked: Option<Score>,
    pub(super) touched: bool,
}

/// One flow.
#[derive(Debug, Default)]
pub(crate) struct ClassState {
    pub(super) tag: f64,
    /// The estimated cost of its running attempts.
    pub(crate) unsettled: f64,
    /// The ready jobs by their order, which a retry returns to.
    pub(super) ready: VecDeque<(u64, u128)>,
    /// Its score in `active`.
    pub(super) offered: Option<Score>,
}

impl ClassState {
    /// Returns the number of ready jobs before `order`.
    pub(crate) fn before(&self, order: u64) -> usize {
        self.ready.partition_point(|(other, _)| *other < order)
    }

    /// Returns the number of ready jobs.
    pub(crate) fn len(&self) -> u64 {
        self.ready.len() as u64
    }

    /// True if it is in `active`.
    pub(crate) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// The first ready jobs, at most `most`.
    pub(super) fn first(&self, most: usize) -> Vec<u128> {
        self.ready.iter().take(most).map(|(_, key)| *key).collect()
    }

    /// The ready job that runs first.
    pub(crate) fn front(&self) -> Option<u128> {
        self.ready.front().map(|(_, key)| *key)
    }
}

impl TenantState {
    pub(super) fn new(limits: TenantLimits) -> Self {
        Self {
            limits,
            configured: false,
            paused: false,
            running: 0,
            queued: 0,
            scheduled: 0,
            meters: Meters::default(),
            attempt_ms: 0.0,
            classes: Default::default(),
            parked: None,
            touched: false,
        }
    }

    pub(super) fn rates(&self) -> Rates {
        Rates {
            requests: self.limits.requests_per_minute.filter(|limit| *limit > 0).map(f64::from),
            tokens: self.limits.tokens_per_minute.filter(|limit| *limit > 0).map(number),
        }
    }

    /// Returns the time at which the tenant may start another attempt; `None` if that depends on another transition.
    pub(super) fn open_at(&self) -> Option<f64> {
        let at_cap = self.limits.max_running.is_some_and(|cap| self.running >= cap);
        (!self.paused && !at_cap).then(|| self.meters.open_at(self.rates()))
    }

    /// Changes the weight. Running attempts were charged at the old weight and are settled at the new one.
    pub(super) fn change_weight(&mut self, weight: u32) {
        let before = std::mem::replace(&mut self.limits.weight, weight);
        let was = TenantLimits { weight: before, ..TenantLimits::default() };
        for class in Class::ALL.into_iter().filter(|_| weight != before) {
            let (now, then) = (fair::weight(class, &self.limits), fair::weight(class, &was));
            let state = &mut self.classes[class.rank()];
            state.tag += state.unsettled / now - state.unsettled / then;
        }
    }

    /// Updates the mean duration by an attempt. Only the estimate of a capped tenant needs it.
    pub(super) fn learn(&mut self, took_ms: f64) {
        if self.limits.max_running.is_none() {
            return;
        }
        let surprise = took_ms - self.attempt_ms;
        let first = self.attempt_ms <= 0.0;
        self.attempt_ms += if first { surprise } else { surprise * LEARNING_RATE };
    }

    /// Returns the remaining rates.
    pub(crate) fn allowance(&self, now: Millis) -> Allowance {
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

    /// Returns for each class whether its flow is in `active`.
    pub(super) fn offers(&self) -> [bool; 3] {
        self.classes.each_ref().map(ClassState::is_offered)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.classes.iter().any(|class| !class.ready.is_empty())
    }
}

/// The state that all tenants of the shard share.
#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) limits: LaneLimits,
    pub(crate) paused: bool,
    pub(crate) not_before: Millis,
    pub(crate) health: Health,
    /// The latest error of a lane that is down.
    pub(crate) down_error: Option<AttemptError>,
    pub(crate) running: u32,
    pub(crate) queued: u64,
    pub(super) vtime: f64,
    pub(super) meters: Meters,
    pub(super) mean_completion: f64,
    /// The sum of the weights of all flows in `active`.
    pub(super) active_weight: f64,
    drain: Drain,
}

/// The number of jobs that end per second while others wait: a mean over windows, each of which halves the weight of
/// the earlier ones. Ends without waiting jobs are not counted, because they measure the demand and not the capacity.
#[derive(Debug, Clone, Copy, Default)]
struct Drain {
    /// The time of the last counted end; 0 if no job waited then.
    last: f64,
    /// The counted time in milliseconds, and the number of ends in it.
    elapsed: f64,
    ended: f64,
    per_s: f64,
}

impl Drain {
    /// The rate for estimates; 0 while nothing is measured or the measure is outdated. While jobs wait, the step that ends
    /// an attempt also starts the next: the last end stands for the last start, which is not kept.
    fn current(&self, now: f64, is_running: bool) -> f64 {
        let gaps = if is_running { DRAIN_GAPS * 1000.0 / self.per_s } else { 0.0 };
        let longest = DRAIN_OUTDATED_MS.max(gaps);
        let is_outdated = self.last > 0.0 && now - self.last > longest;
        if is_outdated { 0.0 } else { self.per_s }
    }

    fn count(&mut self, now: f64, is_backlogged: bool) {
        if !is_backlogged {
            self.last = 0.0;
            return;
        }
        if self.last > 0.0 {
            self.elapsed += (now - self.last).max(0.0);
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

impl LaneState {
    pub(super) fn new() -> Self {
        Self {
            limits: LaneLimits::default(),
            paused: false,
            not_before: Millis(0),
            health: Health::default(),
            down_error: None,
            running: 0,
            queued: 0,
            vtime: 0.0,
            meters: Meters::default(),
            mean_completion: FIRST_COMPLETION_GUESS,
            active_weight: 0.0,
            drain: Drain::default(),
        }
    }

    pub(super) fn rates(&self) -> Rates {
        Rates {
            requests: self.limits.requests_per_minute.filter(|limit| *limit > 0).map(f64::from),
            tokens: self.limits.tokens_per_minute.filter(|limit| *limit > 0).map(number),
        }
    }

    /// Returns the time at which the lane may start another attempt; `None` if that depends on another transition.
    pub(crate) fn open_at(&self) -> Option<f64> {
        let at_cap = self.limits.max_running.is_some_and(|cap| self.running >= cap);
        let may_start = self.health.open_at().filter(|_| !self.paused && !at_cap)?;
        Some(self.meters.open_at(self.rates()).max(ms(self.not_before.max(may_start))))
    }

    pub(crate) fn is_open(&self, now: Millis) -> bool {
        self.open_at().is_some_and(|at| at <= ms(now))
    }

    /// The running mean of completion tokens.
    pub(crate) fn mean_completion(&self) -> f64 {
        self.mean_completion
    }

    pub(crate) fn drain_per_s(&self) -> f64 {
        self.drain.per_s
    }

    /// The drain rate for estimates; 0 if none is known.
    pub(super) fn current_drain_per_s(&self, now: Millis) -> f64 {
        self.drain.current(ms(now), self.running > 0)
    }

    /// Returns the cool-down of the lane; `None` if the lane is open.
    pub(crate) fn down(&self) -> Option<Down> {
        let (since, probe_at) = self.health.down()?;
        Some(Down { since, probe_at, error: self.down_error.clone() })
    }

    /// Starts no attempt before `until`.
    pub(crate) fn stop(&mut self, until: Millis) {
        self.not_before = self.not_before.max(until);
    }

    pub(crate) fn count_ended(&mut self, now: Millis) {
        self.drain.count(ms(now), self.queued > 0);
    }
}

/// Two rates of one owner: attempts and tokens per minute. See [`causeway_queue::limits`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meters {
    pub(super) requests_tat: f64,
    pub(super) tokens_tat: f64,
}

/// The limits of [`Meters`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    requests: Option<f64>,
    tokens: Option<f64>,
}

impl Meters {
    /// Returns the time at which the next attempt may start. Attempts: one must fit into the bucket. Tokens: the bucket
    /// must not be empty; a larger job overdraws it, and the next one waits until the debt is paid.
    pub(super) fn open_at(&self, rates: Rates) -> f64 {
        let requests =
            rates.requests.map_or(0.0, |limit| self.requests_tat - (MINUTE_MS - MINUTE_MS / limit));
        let tokens = rates.tokens.map_or(0.0, |_| self.tokens_tat - MINUTE_MS + 1.0);
        requests.max(tokens)
    }

    /// Returns the wait in milliseconds of an attempt behind `before` others of the same cost.
    pub(super) fn wait_behind(&self, rates: Rates, before: f64, cost: f64, now: f64) -> f64 {
        let backlog = |tat: f64| (tat - now).max(0.0) - MINUTE_MS;
        let requests = rates
            .requests
            .map_or(0.0, |limit| backlog(self.requests_tat) + (before + 1.0) * MINUTE_MS / limit);
        let tokens = rates.tokens.map_or(0.0, |limit| {
            backlog(self.tokens_tat) + 1.0 + before * cost * MINUTE_MS / limit
        });
        requests.max(tokens)
    }

    /// Goes on at other rates. What was charged stays charged: a debt of so many requests or tokens is
    /// paid at the new rate.
    pub(super) fn change_rates(&mut self, before: Rates, after: Rates, now: f64) {
        let at_rate = |tat: f64, before: Option<f64>, after: Option<f64>| match (before, after) {
            (Some(before), Some(after)) if tat > now => now + (tat - now) * before / after,
            (Some(_), Some(_)) => tat,
            (None, _) | (_, None) => 0.0,
        };
        self.requests_tat = at_rate(self.requests_tat, before.requests, after.requests);
        self.tokens_tat = at_rate(self.tokens_tat, before.tokens, after.tokens);
    }

    pub(super) fn charge(&mut self, rates: Rates, cost: f64, now: f64) {
        if let Some(limit) = rates.requests {
            self.requests_tat = self.requests_tat.max(now) + MINUTE_MS / limit;
        }
        if let Some(limit) = rates.tokens {
            self.tokens_tat = self.tokens_tat.max(now) + cost * MINUTE_MS / limit;
        }
    }

    pub(super) fn correct(&mut self, rates: Rates, difference: f64) {
        if let Some(limit) = rates.tokens {
            self.tokens_tat += difference * MINUTE_MS / limit;
        }
    }
}

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
pub(crate) fn ms(moment: Millis) -> f64 {
    moment.0 as f64
}

#[expect(clippy::cast_precision_loss, reason = "token counts lie below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(feature = "audit")]
impl ClassState {
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(feature = "audit")]
impl TenantState {
    /// True if nothing but its rates can keep it closed.
    pub(crate) fn may_open(&self) -> bool {
        self.open_at().is_some()
    }
}
