//! Acceptance of a group of jobs: all or none.

use std::collections::HashMap;

use super::{Engine, Known};
use crate::record::Record;
use causeway_queue::{
    clock::Millis,
    error::{Error, Scope},
    id::{IdempotencyKey, JobId, TenantId},
    job::{Accepted, Idempotency, NewJob},
    limits::check_bound,
};

impl Engine {
    pub(crate) fn enqueue(
        &mut self,
        jobs: Vec<NewJob>,
        now: Millis,
    ) -> Result<Vec<Accepted>, Error> {
        self.forget_ended(now);
        let accepted = self.recognise(&jobs, now)?;
        // Check everything before the first change: the group is accepted as a whole or refused as a whole.
        let fresh = |(job, accepted): &(&NewJob, &Accepted)| *accepted.id() == job.id;
        self.check_room(jobs.iter().zip(&accepted).filter(fresh).map(|(job, _)| job), now)?;
        for (job, accepted) in jobs.into_iter().zip(&accepted) {
            if *accepted.id() == job.id {
                self.accept(job, now);
            }
        }
        self.flows.place_touched(now);
        self.wake_if_servable(now);
        Ok(accepted)
    }

    /// Returns for each of `jobs` whether it was accepted before, by its idempotency key.
    fn recognise(&self, jobs: &[NewJob], now: Millis) -> Result<Vec<Accepted>, Error> {
        let mut fresh: HashMap<(&TenantId, &IdempotencyKey), (&[u8; 32], &JobId)> = HashMap::new();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Some(idempotency) = &job.idempotency else {
                answers.push(Accepted::New(job.id.clone()));
                continue;
            };
            // A key may also repeat within the group.
            let again = fresh.get(&(&job.tenant, &idempotency.key)).copied();
            let known = || self.known(&job.tenant, &idempotency.key, now);
            match again.or_else(known) {
                None => {
                    fresh.insert((&job.tenant, &idempotency.key), (&idempotency.digest, &job.id));
                    answers.push(Accepted::New(job.id.clone()));
                }
                Some(before) => answers.push(Accepted::Replayed(same(idempotency, before)?)),
            }
        }
        Ok(answers)
    }

    /// Returns the job that was accepted before under the idempotency key of `job`.
    pub(crate) fn accepted(&self, job: &NewJob, now: Millis) -> Result<Option<JobId>, Error> {
        let Some(idempotency) = &job.idempotency else { return Ok(None) };
        let before = self.known(&job.tenant, &idempotency.key, now);
        before.map(|before| same(idempotency, before)).transpose()
    }

    /// Returns the digest and the job that were accepted under a key.
    fn known(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
        now: Millis,
    ) -> Option<(&[u8; 32], &JobId)> {
        let known = self.known.get(&(tenant.clone(), key.clone()))?;
        self.is_valid(known, now).then_some((&known.digest, &known.job))
    }

    /// Returns true if a key still belongs to its job.
    pub(super) fn is_valid(&self, known: &Known, now: Millis) -> bool {
        known.expires > now || known.spans_job && self.jobs.contains_key(&known.job.number())
    }

    fn check_room<'a>(
        &self,
        jobs: impl Iterator<Item = &'a NewJob>,
        now: Millis,
    ) -> Result<(), Error> {
        // In the order of the call, so that both engines name the same tenant.
        let mut by_tenant: Vec<(&TenantId, u64)> = Vec::new();
        let mut total = 0;
        for job in jobs {
            total += 1;
            match by_tenant.iter_mut().find(|(tenant, _)| **tenant == job.tenant) {
                Some((_, count)) => *count += 1,
                None => by_tenant.push((&job.tenant, 1)),
            }
        }
        for (tenant, count) in by_tenant {
            self.check_tenant(tenant, count, now)?;
        }
        self.check_lane(total, now)
    }

    /// Refuses new jobs of a tenant that do not fit. The retry delay is the tenant's own, for its jobs may start
    /// later than those of others.
    pub(super) fn check_tenant(&self, id: &TenantId, new: u64, now: Millis) -> Result<(), Error> {
        let queued = self.flows.tenant(id).map_or(0, |tenant| tenant.queued);
        let room_in_ms = |excess| self.flows.estimated_wait_of_new(id, excess - 1, now);
        let limit = self.flows.limits_of(id).max_queued;
        check_bound(Scope::Tenant, limit, (queued, new), room_in_ms)
    }

    /// Refuses new jobs that do not fit into the lane.
    pub(super) fn check_lane(&self, new: u64, now: Millis) -> Result<(), Error> {
        let lane = &self.flows.lane;
        let room_in_ms = |excess| self.flows.estimated_drain_ms(excess, now);
        check_bound(Scope::Lane, Some(lane.limits.max_queued), (lane.queued, new), room_in_ms)
    }

    fn accept(&mut self, job: NewJob, now: Millis) {
        let key = job.id.number();
        self.accepted += 1;
        if let Some(idempotency) = &job.idempotency {
            let known = Known {
                digest: idempotency.digest,
                job: job.id.clone(),
                expires: now.after(idempotency.ttl),
                spans_job: idempotency.spans_job,
            };
            self.known.insert((job.tenant.clone(), idempotency.key.clone()), known);
        }
        if let (Some(session), Some(memory)) = (&job.session, &job.spec.memory) {
            self.sessions.greet(&job.tenant, session, memory, now);
        }
        // Fixed at acceptance, so that charge and correction use the same number.
        let cost = job.cost.total(self.flows.lane.mean_completion());
        self.lists.entry(job.tenant.clone()).or_default().push_back(key);
        let give_up_after = self.policy.give_up_after;
        let record = Record::new(job, (cost, self.accepted), give_up_after, now);
        self.jobs.insert(key, Box::new(record));
        self.admit(key, now);
    }
}

/// Returns the job that was accepted before under the key of `idempotency`, if it was for the same request.
fn same(idempotency: &Idempotency, before: (&[u8; 32], &JobId)) -> Result<JobId, Error> {
    let (digest, job) = before;
    if *digest == idempotency.digest {
        Ok(job.clone())
    } else {
        Err(Error::IdempotencyKeyReused { key: idempotency.key.to_string() })
    }
}
