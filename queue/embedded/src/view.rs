//! The views of the engine; nothing here changes anything.

use bytes::Bytes;

use super::{
    engine::Engine,
    flows::number,
    record::{Place, Record},
};
use causeway_queue::{
    backend::{ListQuery, MAX_LOOKED_AT, MAX_PAGE, Page, Stats},
    clock::{Millis, millis},
    error::Error,
    event::Event,
    id::{JobId, TenantId},
    job::{Job, State},
    state::{Class, Status},
    waiting::{Gate, WaitingFor, WaitingPlace},
};

impl Engine {
    pub(super) fn view(&self, id: &JobId, now: Millis) -> Option<Job> {
        let record = self.jobs.get(&id.number())?;
        let state = self.state(record, now)?;
        Some(Job {
            id: record.id.clone(),
            tenant: record.tenant.clone(),
            class: record.class,
            session: record.session.clone(),
            spec: record.spec.clone(),
            attempts: record.attempts,
            max_attempts: record.max_attempts,
            stalls: record.stalls,
            created_at: record.created,
            started_at: record.started,
            deadline: record.deadline,
            keeps_events: record.events.is_some(),
            state,
            errors: record.errors.clone(),
        })
    }

    /// Returns the state; `None` after the retention of the job.
    fn state(&self, record: &Record, now: Millis) -> Option<State> {
        match &record.place {
            Place::Ready => {
                let position = self.position(record);
                Some(State::Queued {
                    position: Some(position),
                    waiting_for: self.waiting_for(Some(&record.tenant), WaitingPlace::Ready, now),
                    estimated_wait_ms: self.flows.estimated_wait_ms(
                        &record.flow(),
                        (position, number(record.cost)),
                        now,
                    ),
                })
            }
            Place::Held => Some(State::Queued {
                position: None,
                waiting_for: self.waiting_for(Some(&record.tenant), WaitingPlace::Held, now),
                estimated_wait_ms: None,
            }),
            Place::Due { until, retry } => {
                let place =
                    if *retry { WaitingPlace::BetweenAttempts } else { WaitingPlace::Delayed };
                let waiting_for = self.waiting_for(Some(&record.tenant), place, now);
                Some(State::Scheduled { until: *until, waiting_for })
            }
            Place::Running { cancelling, .. } => Some(State::Running { cancelling: *cancelling }),
            Place::Ended { status, at, expires, output } => (*expires > now)
                .then(|| State::Ended { status: *status, at: *at, output: output.clone() }),
        }
    }

    fn position(&self, record: &Record) -> u64 {
        let tenant = self.flows.tenant(&record.tenant);
        tenant.map_or(0, |tenant| tenant.classes[record.class.rank()].before(record.order) as u64)
    }

    fn waiting_for(&self, id: Option<&TenantId>, place: WaitingPlace, now: Millis) -> WaitingFor {
        let tenant = id.and_then(|id| self.flows.tenant(id));
        let gate = tenant.map_or_else(Gate::default, |tenant| tenant.gate(now));
        WaitingFor::of(place, &gate, &self.flows.lane.gate(now))
    }

    pub(super) fn list(
        &self,
        tenant: &TenantId,
        query: &ListQuery,
        now: Millis,
    ) -> Result<Page, Error> {
        let mut page = Page::default();
        let empty = std::collections::VecDeque::new();
        let list = self.lists.get(tenant).unwrap_or(&empty);
        let end = match &query.after {
            None => list.len(),
            Some(id) if id.shard() == self.shard() => list
                .iter()
                .rposition(|key| *key == id.number())
                .ok_or_else(|| Error::UnknownCursor(id.clone()))?,
            // The cursor may be a job of another shard, since lists of several shards are merged by id.
            Some(id) => list.partition_point(|key| *key < id.number()),
        };
        let mut last = None;
        // Bounded even if nothing matches; the cursor lets the caller continue.
        for (looked_at, key) in list.range(..end).rev().enumerate() {
            if looked_at == MAX_LOOKED_AT {
                page.next = last.map(|key| JobId::numbered(self.shard().clone(), key));
                break;
            }
            last = Some(*key);
            let Some(record) = self.jobs.get(key).filter(|record| !record.is_over(now)) else {
                continue;
            };
            // The list is in the order of acceptance, so all further jobs are older.
            if query.since.is_some_and(|since| record.created < since) {
                break;
            }
            if !selects(query, record) {
                continue;
            }
            if page.jobs.len() == query.limit.clamp(1, MAX_PAGE) {
                page.next = page.jobs.last().map(|job| job.id.clone());
                break;
            }
            page.jobs.extend(self.view(&record.id, now));
        }
        Ok(page)
    }

    /// Returns the body of a job, if it is kept.
    pub(super) fn body(&self, id: &JobId, now: Millis) -> Option<Bytes> {
        let record = self.jobs.get(&id.number()).filter(|record| !record.is_over(now))?;
        (record.status() != Status::Succeeded).then(|| record.body.clone())
    }

    /// Returns the number of ready jobs by class.
    pub(super) fn ready(&self) -> [u64; 3] {
        let mut ready = [0; 3];
        for (_, tenant) in self.flows.tenants() {
            for (count, class) in ready.iter_mut().zip(&tenant.classes) {
                *count += class.len();
            }
        }
        ready
    }

    pub(super) fn events(&self, id: &JobId, from: u64, now: Millis) -> Vec<Event> {
        let Some(record) = self.jobs.get(&id.number()) else { return Vec::new() };
        let events = record.events.iter().flatten().filter(|_| !record.is_over(now));
        events.filter(|event| event.seq >= from).cloned().collect()
    }

    pub(super) fn attached(&self, id: &JobId, now: Millis) -> Option<Bytes> {
        let record = self.jobs.get(&id.number())?;
        let is_over = matches!(record.place, Place::Ended { expires, .. } if expires <= now);
        record.attached.clone().filter(|_| !is_over)
    }

    /// Returns the estimated wait of a new standard job of the tenant.
    fn wait_of_next(&self, id: &TenantId, now: Millis) -> Option<u64> {
        let standard = Class::Standard.rank();
        let ready = self.flows.tenant(id).map_or(0, |tenant| tenant.classes[standard].len());
        self.flows.estimated_wait_of_new(id, ready, now)
    }

    pub(super) fn stats(&self, tenant: Option<&TenantId>, now: Millis) -> Stats {
        let lane = &self.flows.lane;
        let one = tenant.map(|id| self.flows.tenant(id));
        let owners = self.flows.tenants().filter(|(id, _)| tenant.is_none_or(|one| *id == one));
        let oldest = owners
            .flat_map(|(_, owner)| &owner.classes)
            // For all tenants, only flows that a worker could serve now count.
            .filter(|class| tenant.is_some() || class.is_offered())
            .filter_map(|class| self.jobs.get(&class.front()?))
            .map(|job| job.created)
            .min();
        Stats {
            queued: one.map_or(lane.queued, |one| one.map_or(0, |one| one.queued)),
            running: one.map_or(lane.running, |one| one.map_or(0, |one| one.running)).into(),
            scheduled: one.map_or(self.due.len() as u64, |one| one.map_or(0, |one| one.scheduled)),
            dead: tenant.is_none().then_some(self.dead.len() as u64),
            oldest_wait_ms: oldest.map_or(0, |at| millis(now.since(at))),
            drain_per_s: lane.drain_per_s(),
            down: lane.down(),
            waiting_for: self.waiting_for(tenant, WaitingPlace::Ready, now),
            paused: lane.paused || one.flatten().is_some_and(|one| one.paused),
            shard_queued: lane.queued,
            shard_max_queued: lane.limits.max_queued,
            estimated_wait_ms: tenant.and_then(|id| self.wait_of_next(id, now)),
            limits: tenant.map(|tenant| self.flows.limits_of(tenant)),
            allowance: one.flatten().map(|one| one.allowance(now)).unwrap_or_default(),
        }
    }
}

/// Returns true if a job matches the filters, apart from `since`.
fn selects(query: &ListQuery, record: &Record) -> bool {
    let session = query.session.as_ref();
    let (model, error_code) = (query.model.as_deref(), query.error_code.as_deref());
    query.status.is_none_or(|status| record.status() == status)
        && query.class.is_none_or(|class| record.class == class)
        && session.is_none_or(|session| record.session.as_ref() == Some(session))
        && model.is_none_or(|model| record.spec.model.as_deref() == Some(model))
        && error_code.is_none_or(|code| record.error_code() == Some(code))
}
