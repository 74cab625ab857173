//! Settlements and claims.

use std::{collections::BTreeSet, time::Duration};

use super::{Engine, tell_event};
use crate::{
    flows::{Flow, ms},
    health::{Charge, Failed},
    record::Place,
};
use causeway_queue::{
    clock::Millis,
    event::{EventKind, retrying, started},
    health::KEPT_BACK,
    job::{AttemptError, ChargedTo, FailedAttempt, Output},
    json::RawJson,
    lease::{ClaimRequest, Lease, Outcome, Receipt, Settled, Settlement, Step},
    policy::PROMOTE_AT_ONCE,
    session::Turn,
    state::Status,
};

impl Engine {
    pub(crate) fn step(
        &mut self,
        settlements: Vec<Settlement>,
        claim: ClaimRequest,
        now: Millis,
    ) -> Step {
        self.forget_ended(now);
        // Settlements come first: they free slots that the claim may use.
        let settled = settlements.into_iter().map(|one| self.settle(one, now)).collect();
        self.promote(now);
        self.flows.place_touched(now);
        let mut leases = Vec::new();
        // The choice keeps other jobs back, so a claim of the chosen job must follow.
        if claim.max > 0 {
            self.choose_probe(now);
        }
        while leases.len() < claim.max && self.flows.lane.is_open(now) {
            let Some((flow, key)) = self.flows.first() else { break };
            let Some(lease) = self.claim(&flow, key, claim, now) else { break };
            self.flows.lane.health.claimed((key, lease.key.epoch));
            leases.push(lease);
        }
        self.wake_if_servable(now);
        let poll_after = self.poll_after(now);
        Step { settled, leases, poll_after }
    }

    fn claim(&mut self, flow: &Flow, key: u128, claim: ClaimRequest, now: Millis) -> Option<Lease> {
        let job = self.jobs.get_mut(&key)?;
        self.flows.serve(flow, job.cost, now);
        let expires = now.after(claim.lease);
        self.leases.insert((expires, key));
        job.place = Place::Running { expires, cancelling: false };
        // A new epoch invalidates every earlier lease of the job.
        job.epoch += 1;
        job.emitted = 0;
        job.attempts += 1;
        job.started = Some(now);
        let attempt = job.attempts;
        let event = job.log(EventKind::Started, || started(attempt));
        tell_event(&mut self.told, &job.id, event);
        let turns = match (&job.session, &job.spec.memory) {
            (Some(session), Some(_)) => self.sessions.turns(&job.tenant, session, now),
            (None | Some(_), _) => Vec::new(),
        };
        Some(Lease {
            key: job.lease_key(),
            session: job.session.clone(),
            spec: job.spec.clone(),
            body: job.body.clone(),
            attempt: job.attempts,
            max_attempts: job.max_attempts,
            keeps_events: job.events.is_some(),
            deadline: job.deadline,
            created_at: job.created,
            claimed_at: now,
            turns,
            receipt: Receipt::default(),
        })
    }

    fn settle(&mut self, settlement: Settlement, now: Millis) -> Settled {
        let key = settlement.key.job.number();
        let Some(job) = self.jobs.get_mut(&key) else { return Settled::Lost };
        // The fence: only the worker that holds this very lease may settle.
        let Place::Running { expires, cancelling } = job.place else { return Settled::Lost };
        if job.epoch != settlement.key.epoch {
            return Settled::Lost;
        }
        self.leases.remove(&(expires, key));
        // Without usage, an attempt that was faulted or handed back is charged nothing; any other keeps its estimate.
        let actual = match (&settlement.outcome, settlement.usage) {
            (_, Some(usage)) => usage.total(),
            (Outcome::Faulted { .. } | Outcome::Released { .. }, None) => 0,
            (
                Outcome::Succeeded { .. }
                | Outcome::Failed { .. }
                | Outcome::Retry { .. }
                | Outcome::Cancelled
                | Outcome::Expired,
                None,
            ) => job.cost,
        };
        let (flow, estimate, started) = (job.flow(), job.cost, job.started);
        self.flows.release(&flow, estimate, actual);
        self.learn(&settlement, started, now);
        let attempt = (key, settlement.key.epoch);
        let is_faulted = matches!(settlement.outcome, Outcome::Faulted { .. });
        // Compared below with the lane after the settlement, to report what it changed.
        let (not_before, down) = (self.flows.lane.not_before, self.flows.lane.health.down());
        self.conclude(key, settlement.unless_cancelled(cancelling), now);
        self.flows.lane.health.ended(attempt);
        self.free_kept_back();
        let status = self.jobs.get(&key).map(|job| job.status());
        if is_faulted && status == Some(Status::Failed) {
            return Settled::Failed;
        }
        let lane = &self.flows.lane;
        match lane.health.down() {
            None if down.is_some() => Settled::LaneUp,
            after if after != down => Settled::LaneDown,
            _ if lane.not_before > not_before => Settled::LaneWaits,
            None | Some(_) => Settled::Done,
        }
    }

    fn learn(&mut self, settlement: &Settlement, started: Option<Millis>, now: Millis) {
        // The duration of an attempt that was faulted or handed back says nothing about a complete one.
        let unspent =
            matches!(settlement.outcome, Outcome::Faulted { .. } | Outcome::Released { .. });
        if let Some(started) = started.filter(|_| !unspent) {
            self.flows.learn_duration(&settlement.key.tenant, started, now);
        }
        let succeeded = matches!(settlement.outcome, Outcome::Succeeded { .. });
        if let Some(usage) = settlement.usage.filter(|_| succeeded) {
            self.flows.learn(usage);
        }
    }

    /// Moves a job to its next state after the end of an attempt.
    fn conclude(&mut self, key: u128, settlement: Settlement, now: Millis) {
        let attempt = (key, settlement.key.epoch);
        // `unless_cancelled` has already turned retries of a cancelled job into its end.
        match settlement.outcome {
            Outcome::Succeeded { output, turn } => {
                self.flows.lane.health.succeeded(attempt, now);
                self.remember(key, settlement.memory, turn, now);
                self.end(key, Status::Succeeded, Some(output), now);
            }
            Outcome::Faulted { fault, delay, unit, output, error } => {
                let failed = Failed { attempt, fault, delay, unit };
                self.charge(&failed, (output, error), now);
            }
            Outcome::Failed { output } => self.end(key, Status::Failed, Some(output), now),
            Outcome::Cancelled => self.end(key, Status::Cancelled, None, now),
            Outcome::Expired => self.end(key, Status::Expired, None, now),
            Outcome::Retry { delay, error } => {
                let event = retrying(delay, &error);
                self.remember_error(key, error, ChargedTo::Job, now);
                self.put_back(key, now.after(delay), event, now);
            }
            Outcome::Released { delay } => {
                self.unspend(key);
                let event = (EventKind::Queued, RawJson::default());
                self.put_back(key, now.after(delay), event, now);
            }
        }
    }

    /// Charges a failed attempt to its job or to the lane.
    fn charge(&mut self, failed: &Failed, (output, error): (Output, AttemptError), now: Millis) {
        let (key, _) = failed.attempt;
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let charge = self.flows.lane.health.charge(failed, &mut job.faults, now);
        let has_more = job.attempts < job.max_attempts;
        let (flow, cost) = (job.flow(), job.cost);
        if self.flows.lane.health.down().is_some() {
            self.flows.lane.down_error = Some(error.clone());
        }
        let (charged_to, again_at) = match charge {
            Charge::Job if !has_more => {
                return self.end(key, Status::Failed, Some(output), now);
            }
            Charge::Job => (ChargedTo::Job, now.after(failed.delay)),
            Charge::Lane { again_at, cools_down, stops_until, give_back } => {
                if let Some(until) = stops_until {
                    self.flows.lane.stop(until);
                }
                // Another flow's job probes first, if there is one.
                if cools_down {
                    self.flows.fall_behind(&flow, cost);
                }
                // In this order: `give_back` leaves a running job one attempt, which `unspend` then hands back.
                self.give_back(&give_back);
                self.unspend(key);
                let is_kept_back = cools_down && self.flows.has_active();
                if is_kept_back {
                    self.flows.lane.health.keep_back(key);
                }
                (ChargedTo::Lane, if is_kept_back { now.after(KEPT_BACK) } else { again_at })
            }
        };
        let event = retrying(failed.delay, &error);
        self.remember_error(key, error, charged_to, now);
        self.put_back(key, again_at, event, now);
    }

    /// Chooses the probe of a failing lane: a job that has not failed, if there is one. Jobs before it are kept back.
    fn choose_probe(&mut self, now: Millis) {
        let lane = &self.flows.lane;
        if lane.health.down().is_none() || !lane.is_open(now) {
            return;
        }
        let mut passes_over = lane.health.passes_over();
        let mut kept_back = None;
        // Bounded: kept-back jobs stay in the due set, so the next step continues behind them.
        for _ in 0..PROMOTE_AT_ONCE {
            let Some((_, key)) = self.flows.first() else { break };
            if self.jobs.get(&key).is_none_or(|job| job.faults.is_none()) {
                if passes_over == 0 {
                    return;
                }
                passes_over -= 1;
            }
            self.keep_back(key, now);
            kept_back = Some(key);
        }
        // No job is left, so the last one that was kept back probes.
        if let Some(key) = kept_back.filter(|_| !self.flows.has_active()) {
            self.unschedule(key);
            self.make_ready(key);
            self.flows.place_touched(now);
        }
    }

    fn keep_back(&mut self, key: u128, now: Millis) {
        let Some(job) = self.jobs.get(&key) else { return };
        self.flows.withdraw_ready(&job.flow(), job.order);
        self.schedule(key, now.after(KEPT_BACK), true);
        self.flows.lane.health.keep_back(key);
        self.flows.place_touched(now);
    }

    /// Makes the jobs ready that were kept back while the lane was down.
    pub(super) fn free_kept_back(&mut self) {
        for key in self.flows.lane.health.set_free() {
            let place = self.jobs.get(&key).map(|job| &job.place);
            // A job may have left the due set meanwhile: cancelled, expired, or already due.
            if matches!(place, Some(Place::Due { retry: true, .. })) {
                self.unschedule(key);
                self.make_ready(key);
            }
        }
    }

    /// Hands attempts back to jobs that have not ended; a running job keeps the one that it runs.
    fn give_back(&mut self, suspects: &[(u128, u32)]) {
        for (key, spent) in suspects {
            let Some(job) = self.jobs.get_mut(key).filter(|job| !job.status().is_terminal()) else {
                continue;
            };
            let least = u32::from(matches!(job.place, Place::Running { .. }));
            job.attempts = job.attempts.saturating_sub(*spent).max(least);
            // The attempts were charged to the job when they failed; now they are the lane's.
            let latest = job.errors.iter_mut().rev();
            let paid = latest.filter(|failed| failed.charged_to == ChargedTo::Job);
            paid.take(*spent as usize).for_each(|failed| failed.charged_to = ChargedTo::Lane);
        }
    }

    fn remember_error(
        &mut self,
        key: u128,
        error: AttemptError,
        charged_to: ChargedTo,
        now: Millis,
    ) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.remember_error(FailedAttempt { error, at: now, charged_to });
        }
    }

    fn unspend(&mut self, key: u128) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.attempts -= 1;
        }
    }

    fn remember(
        &mut self,
        key: u128,
        memory: Option<(u32, Duration)>,
        turn: Option<Turn>,
        now: Millis,
    ) {
        let Some(job) = self.jobs.get(&key) else { return };
        if let (Some(session), Some((keep, _)), Some(turn)) = (&job.session, memory, turn) {
            self.sessions.remember(&job.tenant, session, (turn, keep), now);
        }
    }

    /// Returns the time until work may be visible without a wake-up.
    fn poll_after(&self, now: Millis) -> Option<Duration> {
        let first = |set: &BTreeSet<(Millis, u128)>| set.first().map(|(at, _)| ms(*at));
        let lane = self.flows.lane.open_at().filter(|_| self.flows.has_active());
        [first(&self.due), first(&self.deadlines), self.flows.next_parked(), lane]
            .into_iter()
            .flatten()
            .reduce(f64::min)
            .map(|at| Duration::from_millis(whole_ms(at - ms(now))))
    }
}

/// Returns the milliseconds until a moment that is not before now, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn whole_ms(ms: f64) -> u64 {
    ms.ceil().max(0.0) as u64
}
