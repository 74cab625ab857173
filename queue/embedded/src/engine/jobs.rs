//! Jobs, and the sets in which they wait.

use bytes::Bytes;

use super::{Engine, tell_event};
use crate::record::Place;
use causeway_queue::{clock::Millis, event::EventKind, id::JobId, json::RawJson};

impl Engine {
    /// Queues a job that is in no set: for its session, its time, or its turn.
    pub(super) fn admit(&mut self, key: u128, now: Millis) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        self.flows.lane.queued += 1;
        self.flows.touch(&job.tenant).queued += 1;
        if let Some(deadline) = job.deadline {
            self.deadlines.insert((deadline, key));
        }
        let event = job.log(EventKind::Queued, RawJson::default);
        let may_run = match &job.session {
            Some(session) => self.sessions.join(&job.tenant, session, key),
            None => true,
        };
        // Held until `dispatch` says otherwise, so that the job is in a valid place at each step.
        job.place = Place::Held;
        tell_event(&mut self.told, &job.id, event);
        if may_run {
            self.dispatch(key, now);
        }
    }

    /// Moves a held job into `due` if its time has not come, else into its ready set.
    pub(super) fn dispatch(&mut self, key: u128, now: Millis) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if job.not_before > now {
            let until = job.not_before;
            self.schedule(key, until, false);
        } else {
            self.make_ready(key);
        }
    }

    pub(super) fn make_ready(&mut self, key: u128) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.place = Place::Ready;
        self.flows.make_ready(&job.flow(), job.order, key);
    }

    pub(super) fn schedule(&mut self, key: u128, until: Millis, retry: bool) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.place = Place::Due { until, retry };
        self.due.insert((until, key));
        // Idle workers must learn that they have to poll earlier.
        self.wake = true;
        self.flows.touch(&job.tenant).scheduled += 1;
    }

    pub(super) fn unschedule(&mut self, key: u128) {
        let Some(job) = self.jobs.get(&key) else { return };
        if let Place::Due { until, .. } = job.place {
            self.due.remove(&(until, key));
            self.flows.touch(&job.tenant).scheduled -= 1;
        }
    }

    pub(crate) fn attach(&mut self, id: &JobId, bytes: Bytes) {
        if let Some(job) = self.jobs.get_mut(&id.number()) {
            job.attached = Some(bytes);
        }
    }

    /// Removes a waiting job from the set of its place.
    pub(super) fn withdraw(&mut self, key: u128) {
        let Some(job) = self.jobs.get(&key) else { return };
        match job.place {
            Place::Ready => self.flows.withdraw_ready(&job.flow(), job.order),
            Place::Due { .. } => self.unschedule(key),
            Place::Held => {}
            Place::Running { .. } | Place::Ended { .. } => return,
        }
        let Some(job) = self.jobs.get(&key) else { return };
        self.flows.lane.queued -= 1;
        self.flows.touch(&job.tenant).queued -= 1;
    }
}
