//! Hands on the ends that are to be told: makes a delivery of each, an ordinary job in the lane
//! `webhooks`, and then takes it out of the outbox. Between the two it may die: the delivery has the
//! end's name as its idempotency key, so the next courier makes no second one. Once the end has left the outbox,
//! the key expires.
//!
//! Every worker does this for every shard. It is nudged when this worker has ended a job with a webhook;
//! ends that come about elsewhere (a cancel, a dead worker) are found by looking.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_queue::{
    Error, IdempotencyKey, Job, JobId, NewJob, Queue, Shard, Spec, TenantId,
    job::Idempotency,
    webhook::{End, MAX_OUTBOX_PAGE, shard_of_deliveries},
};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    notice::Notice,
    schedule::{LIFE, Schedule},
    upstream::webhook::EVENT_ID,
};

/// How often all outboxes are looked into.
pub(crate) const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// The time-out of one page. After twice this time no courier holds a page from before, so the idempotency keys of
/// its deliveries are of no use any more.
const STEP: Duration = Duration::from_secs(30);

/// The pause of ends whose tenant has no room for more deliveries.
const FULL_PAUSE: Duration = Duration::from_secs(60);

/// Most shards that wait to be looked into sooner; what has no room is found by looking anyway.
pub(crate) const NUDGES: usize = 64;

/// The courier of one worker.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) queue: Queue,
    /// Shards in which this worker has ended jobs with a webhook.
    pub(crate) nudges: mpsc::Receiver<Shard>,
}

/// The ends of one tenant on a page, and their deliveries.
#[derive(Debug, Default)]
struct Deliveries {
    ends: Vec<End>,
    jobs: Vec<NewJob>,
}

enum Submitted {
    /// With the idempotency keys of the deliveries.
    Done(Vec<End>, Vec<(TenantId, IdempotencyKey)>),
    /// There is no room for them.
    Full(Vec<End>),
}

impl Courier {
    /// Hands on until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(LOOK_ANYWAY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut shards = BTreeSet::new();
            tokio::select! {
                Some(shard) = self.nudges.recv() => drop(shards.insert(shard)),
                _ = ticks.tick() => shards.extend(self.queue.known_shards()),
            }
            while let Ok(shard) = self.nudges.try_recv() {
                shards.insert(shard);
            }
            join_all(shards.iter().map(|shard| self.empty(shard))).await;
        }
    }

    /// Hands on all that is in a shard's outbox. Ends that the store refuses stay there until a later look.
    async fn empty(&self, shard: &Shard) {
        loop {
            match timeout(STEP, self.step(shard)).await {
                Ok(Ok(MAX_OUTBOX_PAGE)) => {}
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(shard = %shard, %error, "cannot enqueue webhook events now");
                    return;
                }
                Err(_) => {
                    tracing::warn!(shard = %shard, "enqueueing webhook events takes too long; tried again");
                    return;
                }
            }
        }
    }

    /// Hands on a page of ends, and returns how many it had. Ends of a tenant that has no room for more deliveries are
    /// postponed, so that they do not stand before those of others.
    pub(crate) async fn step(&self, shard: &Shard) -> Result<usize, Error> {
        let ends = self.queue.backend().outbox(shard, MAX_OUTBOX_PAGE).await?;
        let count = ends.len();
        if ends.is_empty() {
            return Ok(0);
        }
        let jobs = self.jobs(&ends).await?;
        let (mut done, mut by_tenant) = (Vec::new(), BTreeMap::<TenantId, Deliveries>::new());
        for (end, job) in ends.into_iter().zip(&jobs) {
            match self.delivery(&end, job.as_ref()) {
                Some(delivery) => {
                    let of_tenant = by_tenant.entry(delivery.tenant.clone()).or_default();
                    of_tenant.ends.push(end);
                    of_tenant.jobs.push(delivery);
                }
                None => done.push(end),
            }
        }
        let submitted = by_tenant.into_iter().map(|(tenant, of)| self.submit(tenant, of));
        let (mut full, mut keys) = (Vec::new(), Vec::new());
        for submitted in join_all(submitted).await {
            match submitted? {
                Submitted::Done(ends, of) => {
                    done.extend(ends);
                    keys.extend(of);
                }
                Submitted::Full(ends) => full.extend(ends),
            }
        }
        let backend = self.queue.backend();
        backend.take_out(shard, &done).await?;
        // Only couriers that had read the page before can submit these ends again.
        backend.expire_keys(&shard_of_deliveries(), &keys, 2 * STEP).await?;
        backend.postpone(shard, &full, FULL_PAUSE).await?;
        Ok(count)
    }

    /// Returns the jobs of `ends`. A damaged record is as good as none: one end must not hold up the others.
    async fn jobs(&self, ends: &[End]) -> Result<Vec<Option<Job>>, Error> {
        let ids: Vec<JobId> = ends.iter().map(|end| end.job.clone()).collect();
        match self.queue.jobs(&ids).await {
            Err(Error::Corrupt(_)) => {}
            jobs => return jobs,
        }
        let mut jobs = Vec::with_capacity(ids.len());
        for id in &ids {
            jobs.push(match self.queue.jobs(std::slice::from_ref(id)).await {
                Err(Error::Corrupt(why)) => {
                    tracing::error!(job.id = %id, why, "the record of a job with a webhook is damaged");
                    None
                }
                job => job?.pop().flatten(),
            });
        }
        Ok(jobs)
    }

    /// Submits the deliveries of one tenant.
    async fn submit(&self, tenant: TenantId, of: Deliveries) -> Result<Submitted, Error> {
        let key = |job: &NewJob| Some((job.tenant.clone(), job.idempotency.as_ref()?.key.clone()));
        let keys: Vec<_> = of.jobs.iter().filter_map(key).collect();
        match self.queue.submit(of.jobs).await {
            Ok(_) => Ok(Submitted::Done(of.ends, keys)),
            Err(error @ Error::Full { .. }) => {
                let ends = of.ends.len();
                tracing::warn!(tenant.id = %tenant, ends, %error, "webhook events wait for room");
                Ok(Submitted::Full(of.ends))
            }
            Err(error) => Err(error),
        }
    }

    /// The delivery of `end`; `None` when nothing is left of the job that could be told.
    fn delivery(&self, end: &End, job: Option<&Job>) -> Option<NewJob> {
        let Some((job, webhook)) = job.and_then(|job| Some((job, job.spec.webhook.as_ref()?)))
        else {
            tracing::warn!(job.id = %end.job, "an end is not told: its job is forgotten already");
            return None;
        };
        let notice = Notice::of(end, job, &webhook.subject)
            .inspect_err(
                |error| tracing::error!(job.id = %end.job, %error, "an end cannot be told"),
            )
            .ok()?;
        let key = IdempotencyKey::new(&format!("webhook:{}", end.name())).ok()?;
        let spec = Spec {
            url: webhook.url.clone(),
            headers: [(EVENT_ID.to_owned(), notice.id.into())].into(),
            metadata: [("job", end.job.to_string()), ("type", notice.kind)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..Spec::default()
        };
        let drafted = self.queue.draft_delivery(job.tenant.clone(), spec, notice.body);
        Some(NewJob {
            class: job.class,
            deadline: Some(LIFE),
            max_attempts: Schedule::attempts(),
            // The key says all: what has the same is the same event.
            idempotency: Some(Idempotency { key, digest: [0; 32], ttl: LIFE, spans_job: false }),
            ..drafted
        })
    }
}

#[cfg(test)]
mod tests;
