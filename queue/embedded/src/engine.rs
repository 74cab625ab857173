//! The transitions of one shard: the executable specification of Causeway's queue.
//!
//! Every public function is one transition, and takes the time as an argument. The random histories check these
//! invariants after every step:
//!
//! 1. a job is in exactly one [`Place`], and each set holds exactly the jobs with that place;
//! 2. a tenant's `running` is the number of its leases, its `queued` that of its waiting jobs and its `scheduled`
//!    that of its jobs in `due`;
//! 3. `active` holds exactly the servable flows (see [`flows`](super::flows));
//! 4. of the jobs of a session, only the first unfinished one is ready, due or leased;
//! 5. virtual time never decreases.

mod ends;
mod enqueue;
mod jobs;
mod step;

use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::{
    flows::Flows,
    outbox::OutboxEntries,
    record::{Place, Record},
    sessions::Sessions,
};
use causeway_queue::{
    backend::{Emission, Reaped, Repairs},
    clock::Millis,
    error::Error,
    event::{Event, retrying},
    id::{IdempotencyKey, JobId, Shard, TenantId},
    job::{ChargedTo, FailedAttempt, Output, worker_lost},
    lease::{Extended, LeaseKey},
    limits::{LaneLimits, TenantLimits},
    policy::{PROMOTE_AT_ONCE, Policy},
    state::Status,
    webhook::End,
};

/// News to publish after the transition.
#[derive(Debug)]
pub(super) enum Told {
    /// A job has ended.
    Ended(JobId, Status),
    /// A job's log has one more event.
    Event(JobId, Event),
    /// A running job was cancelled.
    Cancel(JobId),
}

/// One shard.
#[derive(Debug)]
pub(super) struct Engine {
    shard: Shard,
    policy: Policy,
    pub(super) flows: Flows,
    /// Boxed, so that the map grows without moving them.
    pub(super) jobs: HashMap<u128, Box<Record>, RandomState>,
    pub(super) due: BTreeSet<(Millis, u128)>,
    pub(super) leases: BTreeSet<(Millis, u128)>,
    pub(super) dead: BTreeSet<(Millis, u128)>,
    pub(super) sessions: Sessions,
    pub(super) lists: HashMap<TenantId, VecDeque<u128>, RandomState>,
    deadlines: BTreeSet<(Millis, u128)>,
    ended: BTreeSet<(Millis, u128)>,
    outbox: OutboxEntries,
    pub(super) known: HashMap<(TenantId, IdempotencyKey), Known>,
    accepted: u64,
    pub(super) told: Vec<Told>,
    /// True if servable work is left over or became visible, so that a worker must be woken.
    pub(super) wake: bool,
}

/// The job that was accepted under an idempotency key.
#[derive(Debug)]
pub(super) struct Known {
    digest: [u8; 32],
    job: JobId,
    expires: Millis,
    spans_job: bool,
}

impl Engine {
    pub(super) fn new(shard: Shard, policy: Policy) -> Self {
        let flows = Flows::new(policy.delivery_limits(&shard.lane));
        Self {
            shard,
            policy,
            flows,
            jobs: HashMap::default(),
            due: BTreeSet::new(),
            leases: BTreeSet::new(),
            dead: BTreeSet::new(),
            sessions: Sessions::default(),
            lists: HashMap::default(),
            deadlines: BTreeSet::new(),
            ended: BTreeSet::new(),
            outbox: OutboxEntries::default(),
            known: HashMap::new(),
            accepted: 0,
            told: Vec::new(),
            wake: false,
        }
    }

    fn wake_if_servable(&mut self, now: Millis) {
        self.wake |= self.flows.has_active() && self.flows.lane.is_open(now);
    }

    pub(super) fn extend_leases(
        &mut self,
        leases: &[LeaseKey],
        lease: std::time::Duration,
        now: Millis,
    ) -> Extended {
        let mut extended = Extended::default();
        for held in leases {
            let key = held.job.number();
            let job = self.jobs.get_mut(&key).filter(|job| job.epoch == held.epoch);
            // Another epoch, or no longer running: the lease is lost.
            let Some(Place::Running { expires, cancelling }) = job.map(|job| &mut job.place) else {
                extended.lost.push(held.clone());
                continue;
            };
            self.leases.remove(&(*expires, key));
            *expires = now.after(lease);
            self.leases.insert((*expires, key));
            if *cancelling {
                extended.cancelled.push(held.clone());
            }
        }
        extended
    }

    pub(super) fn reap(&mut self, now: Millis) -> Reaped {
        self.forget_ended(now);
        let mut reaped = Reaped::default();
        for key in due(&self.leases, now) {
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            let Place::Running { expires, cancelling } = job.place else { continue };
            self.leases.remove(&(expires, key));
            // A stall spends no attempt; the epoch is not reset, so the lost worker stays fenced.
            job.stalls += 1;
            job.attempts -= 1;
            let (flow, cost, epoch, id) = (job.flow(), job.cost, job.epoch, job.id.clone());
            let error = worker_lost(job.attempts + 1);
            let out_of_stalls = job.stalls >= self.policy.max_stalls;
            let charged_to = ChargedTo::Worker;
            job.remember_error(FailedAttempt { error: error.clone(), at: now, charged_to });
            // The actual cost is unknown, so the estimate stands.
            self.flows.release(&flow, cost, cost);
            // A lost worker says nothing about the upstream.
            self.flows.lane.health.ended((key, epoch));
            if cancelling {
                self.end(key, Status::Cancelled, None, now);
            } else if out_of_stalls {
                let output = Output { error: Some(error), ..Output::default() };
                self.end(key, Status::Failed, Some(output), now);
            } else {
                // `put_back` expires the job if its deadline has passed.
                let event = retrying(std::time::Duration::ZERO, &error);
                self.put_back(key, now, event, now);
            }
            let ended = self.jobs.get(&key).is_some_and(|job| job.status().is_terminal());
            let list = if ended { &mut reaped.ended } else { &mut reaped.requeued };
            list.push(id);
        }
        self.promote(now);
        self.flows.place_touched(now);
        self.wake_if_servable(now);
        reaped
    }

    pub(super) fn cancel(&mut self, tenant: &TenantId, id: &JobId, now: Millis) -> bool {
        let key = id.number();
        let Some(job) = self.jobs.get_mut(&key).filter(|job| job.tenant == *tenant) else {
            return false;
        };
        match &mut job.place {
            // An expired record is invisible, even before it is deleted.
            Place::Ended { expires, .. } => return *expires > now,
            Place::Running { cancelling, .. } => {
                // Only the worker can stop the call. It settles the job then.
                *cancelling = true;
                self.told.push(Told::Cancel(id.clone()));
            }
            Place::Ready | Place::Held | Place::Due { .. } => {
                self.withdraw(key);
                self.end(key, Status::Cancelled, None, now);
                self.flows.place_touched(now);
                self.wake_if_servable(now);
            }
        }
        true
    }

    pub(super) fn retry(
        &mut self,
        tenant: &TenantId,
        id: &JobId,
        now: Millis,
    ) -> Result<bool, Error> {
        self.forget_ended(now);
        let key = id.number();
        let Some(job) = self.jobs.get_mut(&key).filter(|job| job.tenant == *tenant) else {
            return Ok(false);
        };
        let status = job.status();
        let Place::Ended { at, expires, .. } = job.place else {
            return Err(Error::NotRetryable { id: id.clone(), status });
        };
        if expires <= now {
            return Ok(false);
        }
        if status == Status::Succeeded {
            return Err(Error::NotRetryable { id: id.clone(), status });
        }
        // A retried job needs room like a new one.
        self.check_tenant(tenant, 1, now)?;
        self.check_lane(1, now)?;
        self.ended.remove(&(expires, key));
        self.dead.remove(&(at, key));
        self.accepted += 1;
        let Some(job) = self.jobs.get_mut(&key) else { return Ok(false) };
        // A new order, so the job goes behind those that wait. The outbox uses it as the generation.
        job.order = self.accepted;
        job.attempts = 0;
        job.stalls = 0;
        job.deadline = Some(now.after(self.policy.give_up_after));
        job.faults = None;
        job.not_before = now;
        job.events = job.events.take().map(|_| Vec::new());
        job.errors.clear();
        self.admit(key, now);
        self.flows.place_touched(now);
        self.wake_if_servable(now);
        Ok(true)
    }

    pub(super) fn emit(&mut self, one: Emission) -> Result<(), ()> {
        let Emission { lease, number, repeated, kind, data } = one;
        let job = self.jobs.get_mut(&lease.job.number()).filter(|job| job.epoch == lease.epoch);
        let job = job.filter(|job| matches!(job.place, Place::Running { .. })).ok_or(())?;
        // The emission was stored before, but its reply was lost.
        if repeated && number <= job.emitted {
            return Ok(());
        }
        job.emitted = number;
        let event = job.log(kind, || data);
        tell_event(&mut self.told, &job.id, event);
        Ok(())
    }

    /// Sets the limits of the lane and of tenants.
    pub(super) fn set_limits(
        &mut self,
        lane: LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
        now: Millis,
    ) {
        self.flows.set_limits(lane, tenants, now);
        self.wake_if_servable(now);
    }

    /// Pauses or resumes the claims of the whole shard or of one tenant.
    pub(super) fn pause(&mut self, tenant: Option<&TenantId>, paused: bool, now: Millis) {
        match tenant {
            None => {
                self.flows.lane.paused = paused;
                if !paused {
                    // The operator decides: to resume a lane also ends its cool-down and the wait that its upstream named.
                    self.flows.lane.health.open();
                    self.flows.lane.not_before = Millis(0);
                    self.free_kept_back();
                }
            }
            Some(tenant) => self.flows.touch(tenant).paused = paused,
        }
        self.flows.place_touched(now);
        self.wake_if_servable(now);
    }

    /// Recounts running jobs from the leases, and deletes expired data.
    pub(super) fn reconcile(&mut self, now: Millis) -> Repairs {
        self.tidy(now);
        self.promote(now);
        self.give_up(now);
        self.flows.place_touched(now);
        // All of them: `recount` would report a tenant that is due and still parked as a repair.
        self.flows.promote_parked(now, usize::MAX);
        self.flows.place_touched(now);
        let mut running: HashMap<TenantId, u32> = HashMap::new();
        for job in self.leases.iter().filter_map(|(_, key)| self.jobs.get(key)) {
            *running.entry(job.tenant.clone()).or_default() += 1;
        }
        let repairs = self.flows.recount(&running, now);
        self.wake_if_servable(now);
        repairs
    }

    /// Returns the outbox entries that are due.
    pub(super) fn outbox(&self, most: usize, now: Millis) -> Vec<End> {
        self.outbox.page(most, now)
    }

    /// Acknowledges outbox entries.
    pub(super) fn take_out(&mut self, ends: &[End]) {
        for end in ends {
            self.outbox.take_out(end);
        }
    }

    /// Delays outbox entries until `due`.
    pub(super) fn postpone(&mut self, ends: &[End], due: Millis) {
        for end in ends {
            self.outbox.postpone(end, due);
        }
    }

    /// Lets known idempotency keys expire at `expires`.
    pub(super) fn expire_keys(&mut self, keys: &[(TenantId, IdempotencyKey)], expires: Millis) {
        for key in keys {
            if let Some(known) = self.known.get_mut(key) {
                // The caller sets the end, so the job no longer extends the life of the key.
                (known.expires, known.spans_job) = (expires, false);
            }
        }
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }
}

/// Returns the first members of `set` that are due.
fn due(set: &BTreeSet<(Millis, u128)>, now: Millis) -> Vec<u128> {
    set.iter().take_while(|(at, _)| *at <= now).take(PROMOTE_AT_ONCE).map(|(_, key)| *key).collect()
}

fn tell_event(told: &mut Vec<Told>, id: &JobId, event: Option<Event>) {
    told.extend(event.map(|event| Told::Event(id.clone(), event)));
}
