//! Both engines under the same operations: answers and jobs are compared, and invariants are
//! checked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use causeway_conformance::{LEASE, error, failed, faulted, session_key, tenant_id};
use causeway_embedded::Embedded;
use causeway_queue::backend::{
    Administration as _, Conversations as _, Outbox as _, Transitions as _, Views as _,
};
use causeway_queue::{
    Backend, Class, EventKind, Fault, IdempotencyKey, JobId, Lease, NewJob, Outcome, Policy, Queue,
    RawJson, Settlement, Spec, Status, Webhook,
    backend::{Emission, ListQuery},
    clock::{Clock as _, ManualClock, Millis},
    job::{Idempotency, Job, Output, State, Usage},
    lease::{ClaimRequest, Settled},
    limits::{LaneLimits, TenantLimits},
    session::{Memory, ProfileChange, Turn},
    webhook::{End as Told, MAX_OUTBOX_PAGE, Subject},
};
use causeway_redis::RedisStore;
use proptest::{prelude::*, test_runner::TestCaseError};

use super::ops::{Draft, End, Op, PROFILES, TENANTS};
use crate::support::redis::RedisServer;

/// The leases of one attempt in both engines.
type Pair = (Lease, Lease);

/// Both engines, and the test's own record of their state.
pub(super) struct World {
    embedded: Arc<Embedded>,
    redis: Arc<RedisStore>,
    queue: Queue,
    clock: Arc<ManualClock>,
    shard: causeway_queue::Shard,
    jobs: Vec<JobId>,
    held: Vec<Pair>,
    zombies: Vec<Pair>,
    /// The delivered outbox entries.
    told: Vec<Told>,
    /// The postponed outbox entries, which are delivered later.
    postponed: Vec<Told>,
    vtime: f64,
}

/// Removes an element, if there is one.
fn take(from: &mut Vec<Pair>, at: usize) -> Option<Pair> {
    (!from.is_empty()).then(|| from.swap_remove(at % from.len()))
}

/// Fails unless the answers of both engines are equal.
fn same<T: std::fmt::Debug>(embedded: &T, redis: &T) -> Result<(), TestCaseError> {
    if format!("{embedded:?}") != format!("{redis:?}") {
        return Err(TestCaseError::fail(format!("embedded: {embedded:#?}\nRedis: {redis:#?}")));
    }
    Ok(())
}

impl World {
    pub(super) async fn new(server: &RedisServer) -> Self {
        let clock = crate::conformance::clock();
        let give_up_after = Duration::from_secs(60);
        let policy = Policy { max_dead: 3, give_up_after, ..Policy::default() };
        let embedded = Arc::new(Embedded::new(policy.clone(), clock.clone()));
        let redis = RedisStore::connect_with_clock(&server.url(), policy, clock.clone()).await;
        let redis = Arc::new(redis.unwrap());
        let queue = Queue::new(Arc::clone(&embedded) as Arc<dyn Backend>, Vec::new());
        let shard = queue.shards().remove(0);
        let (jobs, held, zombies, told, postponed) = Default::default();
        let vtime = 0.0;
        Self { embedded, redis, queue, clock, shard, jobs, held, zombies, told, postponed, vtime }
    }

    fn job(&self, draft: &Draft) -> NewJob {
        let mut spec = Spec { url: "/v1/chat/completions".to_owned(), ..Spec::default() };
        let session = draft.session.map(|n| session_key(&format!("s{n}")));
        if let Some(turns) = draft.remembers.filter(|_| session.is_some()) {
            let profile = RawJson::string("profile");
            spec.memory = Some(Memory { turns, ttl_s: 30, profile });
        }
        spec.webhook = draft
            .webhook
            .then(|| Webhook { url: "https://example.com/".to_owned(), subject: Subject::Job });
        let body = Bytes::from(vec![b'1'; if draft.large { 3000 } else { 10 }]);
        let tenant = tenant_id(TENANTS[draft.tenant % 3]);
        let drafted = self.queue.draft(tenant, spec, body, draft.completion.map(Into::into));
        NewJob {
            class: Class::ALL[draft.class % 3],
            session,
            keeps_events: draft.keeps_events,
            delay: Duration::from_secs(draft.delay_s),
            deadline: draft.deadline_s.map(Duration::from_secs),
            idempotency: draft.key.map(|(key, digest, spans_job)| Idempotency {
                key: IdempotencyKey::new(&format!("k{key}")).unwrap(),
                digest: [digest; 32],
                ttl: Duration::from_secs(3600),
                spans_job,
            }),
            ..drafted
        }
    }

    fn settle((ours, theirs): Pair, end: &End) -> (Settlement, Settlement) {
        let usage = match end {
            End::Succeed(tokens) | End::Fail(tokens) | End::Retry(_, tokens) => {
                tokens.map(|tokens| Usage { prompt_tokens: 3, completion_tokens: tokens.into() })
            }
            End::Fault(..) | End::Release(_) | End::Cancelled | End::Expired => None,
        };
        let outcome = |lease: &Lease| match end {
            End::Succeed(_) => {
                let turn = Turn { user: lease.key.epoch.to_string(), assistant: "a".to_owned() };
                let output = Output { usage, ..Output::default() };
                Outcome::Succeeded { output, turn: lease.spec.memory.as_ref().map(|_| turn) }
            }
            End::Fail(_) => failed(lease.attempt),
            End::Retry(s, _) => {
                let delay = Duration::from_secs(*s);
                Outcome::Retry { delay, error: error(lease.attempt) }
            }
            End::Fault(fault, s) => {
                let delay = Duration::from_secs(*s);
                let fault = match fault {
                    0 => Fault::Rate(delay),
                    1 => Fault::Upstream,
                    2 => Fault::Certain,
                    3 => Fault::Unavailable,
                    _ => Fault::Unclear,
                };
                faulted(fault, delay, lease.attempt)
            }
            End::Release(s) => Outcome::Released { delay: Duration::from_secs(*s) },
            End::Cancelled => Outcome::Cancelled,
            End::Expired => Outcome::Expired,
        };
        let (mine, yours) = (outcome(&ours), outcome(&theirs));
        (ours.settle(mine, usage), theirs.settle(yours, usage))
    }

    async fn step(
        &mut self,
        pairs: Vec<(Pair, End)>,
        max: usize,
    ) -> Result<Vec<Settled>, TestCaseError> {
        let (mut ours, mut theirs): (Vec<_>, Vec<_>) =
            pairs.into_iter().map(|(pair, end)| Self::settle(pair, &end)).unzip();
        let claim = ClaimRequest { max, lease: LEASE };
        let ours = self.embedded.step(&self.shard, &mut ours, claim).await.unwrap();
        let theirs = self.redis.step(&self.shard, &mut theirs, claim).await.unwrap();
        same(&(&ours.settled, &ours.leases), &(&theirs.settled, &theirs.leases))?;
        // Redis may ask for an earlier poll than needed, never for a later one.
        let late = match (ours.poll_after, theirs.poll_after) {
            (Some(ours), Some(theirs)) => theirs > ours,
            (ours, None) => ours.is_some(),
            (None, Some(_)) => false,
        };
        prop_assert!(!late, "{:?} for {:?}", theirs.poll_after, ours.poll_after);
        self.held.extend(ours.leases.into_iter().zip(theirs.leases));
        Ok(ours.settled)
    }

    pub(super) async fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Enqueue(drafts) => self.enqueue(&drafts).await?,
            Op::Step(ends, max) => {
                let held: Vec<_> = ends
                    .into_iter()
                    .filter_map(|(at, end)| take(&mut self.held, at).map(|pair| (pair, end)))
                    .collect();
                self.step(held, max).await?;
            }
            Op::ZombieSettles(at, end) => {
                if let Some(zombie) = take(&mut self.zombies, at) {
                    self.step(vec![(zombie, end)], 0).await?;
                }
            }
            Op::ExtendLeases => {
                let keys: Vec<_> = self.held.iter().map(|(ours, _)| ours.key.clone()).collect();
                let ours = self.embedded.extend_leases(&self.shard, &keys, LEASE).await;
                same(&ours, &self.redis.extend_leases(&self.shard, &keys, LEASE).await)?;
            }
            Op::Crash(at) => self.zombies.extend(take(&mut self.held, at)),
            Op::Reap => {
                let ours = self.embedded.reap(&self.shard).await;
                same(&ours, &self.redis.reap(&self.shard).await)?;
            }
            Op::Cancel(job, tenant) => {
                if let Some(id) = self.pick(job) {
                    let tenant = tenant_id(TENANTS[tenant % 3]);
                    let ours = self.embedded.cancel(&tenant, &id).await;
                    same(&ours, &self.redis.cancel(&tenant, &id).await)?;
                }
            }
            Op::Retry(job, tenant) => {
                if let Some(id) = self.pick(job) {
                    let tenant = tenant_id(TENANTS[tenant % 3]);
                    let ours = self.embedded.retry(&tenant, &id).await;
                    same(&ours, &self.redis.retry(&tenant, &id).await)?;
                }
            }
            Op::Emit(at) => self.emit(at).await?,
            Op::Pause(tenant, paused) => {
                let tenant = tenant.map(|n| tenant_id(TENANTS[n]));
                self.embedded.pause(&self.shard, tenant.as_ref(), paused).await.unwrap();
                self.redis.pause(&self.shard, tenant.as_ref(), paused).await.unwrap();
            }
            Op::Stop(delay_s) => {
                let delay = Duration::from_secs(delay_s);
                self.embedded.stop(&self.shard, delay).await.unwrap();
                self.redis.stop(&self.shard, delay).await.unwrap();
            }
            Op::Limit(lane, tenants) => self.limit(&lane, tenants).await,
            Op::Pass(ms) => self.clock.advance(Duration::from_millis(ms)),
            Op::List(tenant, limit, after, by) => {
                let after = after.and_then(|at| self.pick(at));
                let query = ListQuery { limit, after, ..self.filter(by) };
                let tenant = tenant_id(TENANTS[tenant % 3]);
                let ours = self.embedded.list(&self.shard, &tenant, &query).await;
                same(&ours, &self.redis.list(&self.shard, &tenant, &query).await)?;
            }
            Op::Talk(tenant, session, change) => self.talk(tenant, session, change).await?,
            Op::HandOn(most) => self.hand_on(most).await?,
            Op::Postpone(most, s) => self.postpone(most, Duration::from_secs(s)).await,
            Op::Reconcile => self.reconcile().await?,
        }
        self.compare().await
    }

    async fn enqueue(&mut self, drafts: &[Draft]) -> Result<(), TestCaseError> {
        let jobs: Vec<NewJob> = drafts.iter().map(|draft| self.job(draft)).collect();
        let ours = self.embedded.enqueue(&self.shard, jobs.clone()).await;
        same(&ours, &self.redis.enqueue(&self.shard, jobs).await)?;
        for accepted in ours.into_iter().flatten() {
            if !self.jobs.contains(accepted.id()) {
                self.jobs.push(accepted.id().clone());
            }
        }
        Ok(())
    }

    async fn talk(
        &self,
        tenant: usize,
        session: u8,
        change: Option<(usize, usize)>,
    ) -> Result<(), TestCaseError> {
        let (tenant, session) = (tenant_id(TENANTS[tenant]), session_key(&format!("s{session}")));
        let (shard, embedded, redis) = (&self.shard, &self.embedded, &self.redis);
        let Some((known, new)) = change else {
            let ours = embedded.forget(shard, &tenant, &session).await;
            return same(&ours, &redis.forget(shard, &tenant, &session).await);
        };
        let known = (known > 0).then(|| RawJson::string(PROFILES[known]));
        let profile = RawJson::string(PROFILES[new]);
        let change = ProfileChange { known, profile, ttl: Duration::from_secs(20) };
        let ours = embedded.change_profile(shard, &tenant, &session, &change).await;
        same(&ours, &redis.change_profile(shard, &tenant, &session, &change).await)
    }

    /// Returns a query with one filter.
    fn filter(&self, by: u8) -> ListQuery {
        let all = ListQuery::default();
        let code = |code: &str| Some(code.to_owned());
        match by {
            0 => ListQuery { status: Some(Status::Queued), ..all },
            1 => ListQuery { class: Some(Class::Batch), ..all },
            2 => ListQuery { session: Some(session_key("s1")), ..all },
            3 => ListQuery { error_code: code("upstream_error"), ..all },
            4 => ListQuery { error_code: code("worker_lost"), ..all },
            5 => ListQuery { error_code: code("gave_up"), ..all },
            6 => ListQuery { since: Some(Millis(self.clock.now().0 - 5000)), ..all },
            _ => all,
        }
    }

    async fn limit(&self, lane: &LaneLimits, tenants: Vec<(usize, TenantLimits)>) {
        let named = |(n, limits)| (tenant_id(TENANTS[n]), limits);
        let tenants: Vec<_> = tenants.into_iter().map(named).collect();
        self.embedded.set_limits(&self.shard, lane, &tenants).await.unwrap();
        self.redis.set_limits(&self.shard, lane, &tenants).await.unwrap();
    }

    async fn queue_is_empty(&self) -> bool {
        let stats = self.embedded.stats(&self.shard, None).await.unwrap();
        stats.queued + stats.running == 0
    }

    fn pick(&self, at: usize) -> Option<JobId> {
        (!self.jobs.is_empty()).then(|| self.jobs[at % self.jobs.len()].clone())
    }

    async fn emit(&self, at: usize) -> Result<(), TestCaseError> {
        let everyone: Vec<&Pair> = self.held.iter().chain(&self.zombies).collect();
        let keeping: Vec<_> = everyone.into_iter().filter(|(ours, _)| ours.keeps_events).collect();
        if keeping.is_empty() {
            return Ok(());
        }
        let lease = keeping[at % keeping.len()].0.key.clone();
        let one = Emission {
            lease,
            number: 1,
            repeated: false,
            kind: EventKind::Delta,
            data: RawJson::string("x"),
        };
        let ours = self.embedded.emit(&self.shard, vec![one.clone()]).await.unwrap();
        let theirs = self.redis.emit(&self.shard, vec![one]).await.unwrap();
        same(&ours, &theirs)
    }

    /// Acknowledges the oldest entries in both outboxes, each for the first time.
    async fn hand_on(&mut self, most: usize) -> Result<(), TestCaseError> {
        let ends = self.embedded.outbox(&self.shard, most).await.unwrap();
        self.embedded.take_out(&self.shard, &ends).await.unwrap();
        self.redis.take_out(&self.shard, &ends).await.unwrap();
        for end in ends {
            let again = self.told.iter().any(|told| told.name() == end.name());
            prop_assert!(!again, "{:?} is delivered twice", end);
            self.told.push(end);
        }
        Ok(())
    }

    async fn postpone(&mut self, most: usize, delay: Duration) {
        let ends = self.embedded.outbox(&self.shard, most).await.unwrap();
        self.embedded.postpone(&self.shard, &ends, delay).await.unwrap();
        self.redis.postpone(&self.shard, &ends, delay).await.unwrap();
        self.postponed.extend(ends);
    }

    /// Compares both outboxes, and checks that every entry waits there or was delivered.
    async fn compare_outboxes(&self, jobs: &[Option<Job>]) -> Result<(), TestCaseError> {
        let ours = self.embedded.outbox(&self.shard, MAX_OUTBOX_PAGE).await.unwrap();
        same(&ours, &self.redis.outbox(&self.shard, MAX_OUTBOX_PAGE).await.unwrap())?;
        for job in jobs.iter().flatten() {
            let to_be_told = job.spec.webhook.is_some();
            if let State::Ended { status, at, .. } = &job.state {
                let is_it = |end: &Told| (&end.job, end.status, end.at) == (&job.id, *status, *at);
                let is_known = ours.iter().chain(&self.told).chain(&self.postponed).any(is_it);
                prop_assert_eq!(is_known, to_be_told, "{:?}", job);
            }
            let is_there = ours.iter().any(|end| end.job == job.id);
            prop_assert!(to_be_told || !is_there, "{} has no webhook", job.id);
        }
        Ok(())
    }

    /// Checks that there is nothing to repair.
    async fn reconcile(&self) -> Result<(), TestCaseError> {
        let ours = self.embedded.reconcile(&self.shard).await.unwrap();
        let theirs = self.redis.reconcile(&self.shard).await.unwrap();
        prop_assert_eq!(ours.total(), 0, "embedded: {:?}", ours);
        prop_assert_eq!(theirs.total(), 0, "Redis: {:?}", theirs);
        Ok(())
    }

    /// Compares the visible state of both engines, and checks their invariants.
    async fn compare(&mut self) -> Result<(), TestCaseError> {
        let ours = self.embedded.get(&self.shard, &self.jobs).await.unwrap();
        let theirs = self.redis.get(&self.shard, &self.jobs).await.unwrap();
        same(&ours, &theirs)?;
        self.compare_outboxes(&ours).await?;
        for tenant in TENANTS.map(|name| Some(tenant_id(name))).into_iter().chain([None]) {
            if let Some(tenant) = &tenant {
                let ours = self.embedded.conversations(&self.shard, tenant).await.unwrap();
                same(&ours, &self.redis.conversations(&self.shard, tenant).await.unwrap())?;
            }
            let ours = self.embedded.stats(&self.shard, tenant.as_ref()).await.unwrap();
            let theirs = self.redis.stats(&self.shard, tenant.as_ref()).await.unwrap();
            same(&ours, &theirs)?;
        }
        let ours = self.embedded.ready(&self.shard).await.unwrap();
        same(&ours, &self.redis.ready(&self.shard).await.unwrap())?;
        let ours = self.embedded.audit(&self.shard);
        let theirs = self.redis.audit(&self.shard, &self.jobs).await.unwrap();
        prop_assert!(ours.faults.is_empty(), "embedded: {:#?}", ours.faults);
        prop_assert!(theirs.faults.is_empty(), "Redis: {:#?}", theirs.faults);
        prop_assert_eq!(ours.vtime, theirs.vtime);
        prop_assert!(ours.vtime >= self.vtime, "virtual time went back");
        self.vtime = ours.vtime;
        Ok(())
    }

    /// Lifts all limits, runs every job to its end, and compares the events of both engines.
    pub(super) async fn finish(&mut self) -> Result<(), TestCaseError> {
        let free = LaneLimits::default();
        // A tenant that is missing from the list would keep its limits.
        let tenants = (0..TENANTS.len()).map(|tenant| (tenant, TenantLimits::default()));
        self.apply(Op::Limit(free, tenants.collect())).await?;
        for tenant in [None, Some(0), Some(1), Some(2)] {
            self.apply(Op::Pause(tenant, false)).await?;
        }
        self.zombies.append(&mut self.held);
        for _ in 0..50 {
            self.clock.advance(Duration::from_secs(60));
            self.apply(Op::Reap).await?;
            self.step(Vec::new(), 1000).await?;
            if self.held.is_empty() && self.queue_is_empty().await {
                break;
            }
            let held = std::mem::take(&mut self.held);
            self.step(held.into_iter().map(|pair| (pair, End::Succeed(None))).collect(), 0).await?;
        }
        self.compare().await?;
        self.reconcile().await?;
        let jobs: Vec<Job> = self
            .embedded
            .get(&self.shard, &self.jobs)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .collect();
        prop_assert_eq!(jobs.len(), self.jobs.len());
        for job in jobs {
            prop_assert!(job.status().is_terminal(), "{:?} never ended", job);
            let ours = self.embedded.events(&job.id, 0).await.unwrap();
            let theirs = self.redis.events(&job.id, 0).await.unwrap();
            same(&ours, &theirs)?;
            let ours = self.embedded.body(&job.id).await.unwrap();
            same(&ours, &self.redis.body(&job.id).await.unwrap())?;
        }
        Ok(())
    }
}
