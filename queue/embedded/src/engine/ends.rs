//! The ends of attempts and jobs, and the deletion of ended jobs.

use std::collections::VecDeque;

use super::{Engine, Told, due, tell_event};
use crate::record::Place;
use causeway_queue::{
    clock::Millis,
    event::EventKind,
    id::{JobId, TenantId},
    job::Output,
    json::RawJson,
    policy::PROMOTE_AT_ONCE,
    state::Status,
    webhook::End,
};

impl Engine {
    /// Requeues a job after its attempt, in its old order; expires it if its deadline has passed.
    pub(super) fn put_back(
        &mut self,
        key: u128,
        until: Millis,
        (kind, data): (EventKind, RawJson),
        now: Millis,
    ) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if job.is_out_of_time(self.policy.give_up_after, now) {
            return self.end(key, Status::Expired, None, now);
        }
        let event = job.log(kind, || data);
        tell_event(&mut self.told, &job.id, event);
        // The claim took the job out of these counts; `schedule` and `make_ready` do not change them.
        self.flows.lane.queued += 1;
        self.flows.touch(&job.tenant).queued += 1;
        if until > now {
            self.schedule(key, until, true);
        } else {
            self.make_ready(key);
        }
    }

    /// Ends a job that is in no set any more, and starts the next job of its session.
    pub(super) fn end(&mut self, key: u128, status: Status, output: Option<Output>, now: Millis) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let expires = now.after(self.policy.retention);
        // A job that ended without an attempt says nothing about the drain rate.
        if matches!(job.place, Place::Running { .. }) {
            self.flows.lane.count_ended(now);
        }
        job.place = Place::Ended { status, at: now, expires, output };
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        if let Some(kind) = EventKind::of_end(status) {
            let event = job.log(kind, RawJson::default);
            tell_event(&mut self.told, &job.id, event);
        }
        // A succeeded job cannot be retried, so its body is no longer needed.
        if status == Status::Succeeded {
            job.body = bytes::Bytes::new();
        }
        self.told.push(Told::Ended(job.id.clone(), status));
        if job.spec.webhook.is_some() {
            self.outbox.insert(End { job: job.id.clone(), status, at: now, life: job.order });
        }
        let next =
            job.session.as_ref().and_then(|session| self.sessions.leave(&job.tenant, session, key));
        self.ended.insert((expires, key));
        if status == Status::Failed {
            self.dead.insert((now, key));
            // A bounded list: the oldest failed jobs leave it, but stay readable until they are deleted.
            while self.dead.len() > self.policy.max_dead as usize {
                self.dead.pop_first();
            }
        }
        if let Some(next) = next {
            self.dispatch(next, now);
        }
    }

    /// Promotes due work: deadlines first, then jobs, then tenants. A job that is due and expired at once ends.
    pub(super) fn promote(&mut self, now: Millis) {
        for key in due(&self.deadlines, now) {
            self.expire(key, now);
        }
        for key in due(&self.due, now) {
            self.unschedule(key);
            self.make_ready(key);
        }
        self.flows.promote_parked(now, PROMOTE_AT_ONCE);
    }

    /// Ends a waiting job at its deadline. A running job is ended by its worker, or when its lease ends.
    fn expire(&mut self, key: u128, now: Millis) {
        let Some(job) = self.jobs.get(&key) else { return };
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        if matches!(job.place, Place::Running { .. }) {
            return;
        }
        self.expire_waiting(key, now);
    }

    /// Ends a waiting job after its time. If its lane is down and the job has no error of its own, its output has the
    /// latest error of the lane.
    fn expire_waiting(&mut self, key: u128, now: Millis) {
        self.withdraw(key);
        let is_untried = self.jobs.get(&key).is_some_and(|job| job.errors.is_empty());
        let outage = self.flows.lane.down().filter(|_| is_untried).and_then(|down| down.error);
        let output = outage.map(|error| Output { error: Some(error), ..Output::default() });
        self.end(key, Status::Expired, output, now);
    }

    /// Ends jobs that have waited for `give_up_after`. It reads the first ready jobs of each flow, where the oldest
    /// are.
    pub(super) fn give_up(&mut self, now: Millis) {
        for flow in self.flows.all() {
            for key in self.flows.first_ready(&flow, PROMOTE_AT_ONCE) {
                let is_over = self.jobs.get(&key).is_some_and(|job| {
                    job.deadline.is_none() && job.is_out_of_time(self.policy.give_up_after, now)
                });
                if is_over {
                    self.expire_waiting(key, now);
                }
            }
        }
    }

    /// Deletes ended jobs after the retention.
    pub(super) fn forget_ended(&mut self, now: Millis) {
        for key in due(&self.ended, now) {
            let Some(job) = self.jobs.remove(&key) else { continue };
            if let Place::Ended { at, expires, .. } = job.place {
                self.ended.remove(&(expires, key));
                self.dead.remove(&(at, key));
            }
            self.shorten_list(&job.tenant);
        }
    }

    /// Removes deleted jobs from the front of a tenant's list.
    fn shorten_list(&mut self, tenant: &TenantId) {
        let Some(list) = self.lists.get_mut(tenant) else { return };
        while list.front().is_some_and(|first| !self.jobs.contains_key(first)) {
            list.pop_front();
        }
        if list.is_empty() {
            self.lists.remove(tenant);
        }
    }

    /// Deletes an ended job of `tenant`; false if there is none.
    pub(crate) fn delete(&mut self, tenant: &TenantId, id: &JobId) -> bool {
        let key = id.number();
        let Some(job) = self.jobs.get(&key).filter(|job| job.tenant == *tenant) else {
            return false;
        };
        let Place::Ended { at, expires, .. } = job.place else { return false };
        self.ended.remove(&(expires, key));
        self.dead.remove(&(at, key));
        self.jobs.remove(&key);
        self.shorten_list(tenant);
        true
    }

    /// Deletes expired idempotency keys, idle tenants, and old outbox entries.
    pub(super) fn tidy(&mut self, now: Millis) {
        self.forget_ended(now);
        // Deleted jobs behind a kept one: `shorten_list` does not reach them.
        if self.lists.values().map(VecDeque::len).sum::<usize>() > 2 * self.jobs.len() {
            for list in self.lists.values_mut() {
                list.retain(|key| self.jobs.contains_key(key));
            }
        }
        let retention = self.policy.retention;
        self.outbox.forget(|due| due.after(retention) <= now);
        let mut known = std::mem::take(&mut self.known);
        known.retain(|_, known| self.is_valid(known, now));
        self.known = known;
        self.flows.forget_idle(now, |tenant| self.lists.contains_key(tenant));
    }
}
