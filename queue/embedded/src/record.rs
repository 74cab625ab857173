//! The record of a job in the engine.

use std::time::Duration;

use bytes::Bytes;

use super::flows::Flow;
use crate::health::Faults;
use causeway_queue::{
    clock::Millis,
    event::{Event, EventKind},
    id::{JobId, SessionKey, TenantId},
    job::{FailedAttempt, MAX_ERRORS, NewJob, Output, Spec, code_of_plain_end},
    json::RawJson,
    lease::LeaseKey,
    state::{Class, Status},
};

/// A job.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: JobId,
    pub(super) tenant: TenantId,
    pub(super) class: Class,
    pub(super) session: Option<SessionKey>,
    pub(super) spec: Spec,
    pub(super) body: Bytes,
    pub(super) cost: u64,
    pub(super) max_attempts: u32,
    pub(super) attempts: u32,
    pub(super) stalls: u32,
    pub(super) epoch: u32,
    /// The number in the order of acceptance; a requeued job returns to it.
    pub(super) order: u64,
    pub(super) created: Millis,
    pub(super) started: Option<Millis>,
    pub(super) deadline: Option<Millis>,
    /// The earliest start of a job that was accepted with a delay.
    pub(super) not_before: Millis,
    pub(super) place: Place,
    pub(super) errors: Vec<FailedAttempt>,
    /// The bytes that the API attached.
    pub(super) attached: Option<Bytes>,
    /// The event log, if it is kept.
    pub(super) events: Option<Vec<Event>>,
    /// The number of events that the current attempt has emitted.
    pub(super) emitted: u32,
    /// The job's history of failures that were charged to the lane.
    pub(super) faults: Option<Faults>,
}

/// The place of a job: exactly one.
#[derive(Debug)]
pub(super) enum Place {
    /// In its flow's ready set.
    Ready,
    /// Behind an earlier job of its session.
    Held,
    /// In the due set.
    Due {
        /// The end of the wait.
        until: Millis,
        /// True if it is between two attempts.
        retry: bool,
    },
    /// Leased.
    Running {
        /// The end of the lease.
        expires: Millis,
        /// True if the job was cancelled.
        cancelling: bool,
    },
    /// At its end.
    Ended {
        /// The terminal status.
        status: Status,
        /// The time of the end.
        at: Millis,
        /// The time at which the record is deleted.
        expires: Millis,
        /// The output.
        output: Option<Output>,
    },
}

impl Record {
    /// Returns the record of an accepted job. A job without a deadline expires after `give_up_after`, counted from
    /// its acceptance, or from its earliest start if it is delayed. Only the latter is stored as a deadline.
    pub(super) fn new(
        job: NewJob,
        (cost, order): (u64, u64),
        give_up_after: Duration,
        now: Millis,
    ) -> Self {
        let gives_up = (!job.delay.is_zero()).then(|| job.delay.saturating_add(give_up_after));
        Self {
            id: job.id,
            tenant: job.tenant,
            class: job.class,
            session: job.session,
            spec: job.spec,
            body: job.body,
            cost,
            max_attempts: job.max_attempts,
            attempts: 0,
            stalls: 0,
            epoch: 0,
            order,
            created: now,
            started: None,
            deadline: job.deadline.or(gives_up).map(|deadline| now.after(deadline)),
            not_before: now.after(job.delay),
            place: Place::Held,
            errors: Vec::new(),
            events: job.keeps_events.then(Vec::new),
            emitted: 0,
            faults: None,
            attached: None,
        }
    }

    pub(super) fn status(&self) -> Status {
        match &self.place {
            Place::Ready | Place::Held => Status::Queued,
            Place::Due { .. } => Status::Scheduled,
            Place::Running { .. } => Status::Running,
            Place::Ended { status, .. } => *status,
        }
    }

    /// Returns true if the job has ended and its retention is over.
    pub(super) fn is_over(&self, now: Millis) -> bool {
        matches!(self.place, Place::Ended { expires, .. } if expires <= now)
    }

    /// Returns the code of the error with which the job ended.
    pub(super) fn error_code(&self) -> Option<&str> {
        let Place::Ended { status, output, .. } = &self.place else { return None };
        let gave_up = !self.spec.set_deadline(self.created, self.deadline);
        let error = || Some(output.as_ref()?.error.as_ref()?.code.as_str());
        code_of_plain_end(*status, gave_up).or_else(error)
    }

    pub(super) fn flow(&self) -> Flow {
        Flow { class: self.class, tenant: self.tenant.clone() }
    }

    pub(super) fn lease_key(&self) -> LeaseKey {
        LeaseKey {
            job: self.id.clone(),
            epoch: self.epoch,
            class: self.class,
            tenant: self.tenant.clone(),
        }
    }

    /// Returns true if the job's deadline has passed, or without one `give_up_after` since its acceptance.
    pub(super) fn is_out_of_time(&self, give_up_after: Duration, now: Millis) -> bool {
        self.deadline.unwrap_or_else(|| self.created.after(give_up_after)) <= now
    }

    /// Appends to the event log, if it is kept, and returns the event. `data` is computed only then.
    pub(super) fn log(&mut self, kind: EventKind, data: impl FnOnce() -> RawJson) -> Option<Event> {
        let events = self.events.as_mut()?;
        let event = Event { seq: events.len() as u64, kind, data: data() };
        events.push(event.clone());
        Some(event)
    }

    pub(super) fn remember_error(&mut self, failed: FailedAttempt) {
        self.errors.push(failed);
        if self.errors.len() > MAX_ERRORS {
            self.errors.remove(0);
        }
    }
}
