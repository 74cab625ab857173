//! The outbox relay: creates one delivery, a job in the lane `webhooks`, for each entry of the outbox.
//!
//! An entry is acknowledged after its delivery was submitted. If the relay dies between the two, the delivery's
//! idempotency key, which is the entry's name, keeps the next relay from creating a second one. The key expires
//! once the entry has left the outbox.
//!
//! Every worker relays for every shard. It is notified after its own attempts have ended a job with a webhook.
//! Polling finds the other entries (a cancellation, a lost worker).

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

use super::{
    deliverer::EVENT_ID,
    event::WebhookEvent,
    schedule::{DELIVERY_WINDOW, Schedule},
};

/// Interval at which all outboxes are polled.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Time-out of one page. After twice this time no relay can still submit a page that it read before, so the
/// idempotency keys of its deliveries are not needed any more.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Delay of the entries of a tenant without room for more deliveries.
const FULL_DELAY: Duration = Duration::from_secs(60);

/// Most pending notifications. A notification beyond that is dropped: polling finds its entries.
pub(crate) const MAX_NOTIFICATIONS: usize = 64;

/// The outbox relay of one worker.
#[derive(Debug)]
pub(crate) struct OutboxRelay {
    pub(crate) queue: Queue,
    /// Shards in which this worker has ended jobs with a webhook.
    pub(crate) notifications: mpsc::Receiver<Shard>,
}

/// The outbox entries of one tenant on a page, and their deliveries.
#[derive(Debug, Default)]
struct Deliveries {
    entries: Vec<End>,
    jobs: Vec<NewJob>,
}

/// The result of submitting one tenant's deliveries.
enum Submitted {
    /// Accepted; with the idempotency keys of the deliveries.
    Done(Vec<End>, Vec<(TenantId, IdempotencyKey)>),
    /// Rejected: the tenant's queue is full.
    Full(Vec<End>),
}

impl OutboxRelay {
    /// Relays entries until the future is dropped.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut shards = BTreeSet::new();
            tokio::select! {
                Some(shard) = self.notifications.recv() => drop(shards.insert(shard)),
                _ = ticks.tick() => shards.extend(self.queue.known_shards()),
            }
            while let Ok(shard) = self.notifications.try_recv() {
                shards.insert(shard);
            }
            // Concurrently: a shard on a slow node must not delay the others.
            join_all(shards.iter().map(|shard| self.relay_all(shard))).await;
        }
    }

    /// Relays all entries of a shard's outbox. Entries that the store rejects stay there until the next poll.
    async fn relay_all(&self, shard: &Shard) {
        loop {
            match timeout(PAGE_TIMEOUT, self.step(shard)).await {
                Ok(Ok(MAX_OUTBOX_PAGE)) => {}
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(shard = %shard, %error, "cannot enqueue webhook events");
                    return;
                }
                Err(_) => {
                    tracing::warn!(shard = %shard, "enqueueing webhook events timed out; the next poll retries it");
                    return;
                }
            }
        }
    }

    /// Relays one page of entries, and returns their number. Entries of a tenant without room for more deliveries
    /// are postponed, so they do not block those of other tenants.
    pub(crate) async fn step(&self, shard: &Shard) -> Result<usize, Error> {
        let entries = self.queue.outbox().outbox(shard, MAX_OUTBOX_PAGE).await?;
        let count = entries.len();
        if entries.is_empty() {
            return Ok(0);
        }
        let jobs = self.jobs(&entries).await?;
        // By tenant: the limit of queued deliveries is per tenant, and a full one must not reject the others.
        let (mut done, mut by_tenant) = (Vec::new(), BTreeMap::<TenantId, Deliveries>::new());
        for (entry, job) in entries.into_iter().zip(&jobs) {
            match self.delivery(&entry, job.as_ref()) {
                Some(delivery) => {
                    let of_tenant = by_tenant.entry(delivery.tenant.clone()).or_default();
                    of_tenant.entries.push(entry);
                    of_tenant.jobs.push(delivery);
                }
                None => done.push(entry),
            }
        }
        let submitted = by_tenant.into_iter().map(|(tenant, of)| self.submit(tenant, of));
        let (mut full, mut keys) = (Vec::new(), Vec::new());
        for submitted in join_all(submitted).await {
            match submitted? {
                Submitted::Done(entries, of) => {
                    done.extend(entries);
                    keys.extend(of);
                }
                Submitted::Full(entries) => full.extend(entries),
            }
        }
        // Acknowledged only now: an entry must survive a crash before its delivery was submitted.
        let outbox = self.queue.outbox();
        outbox.take_out(shard, &done).await?;
        // Only a relay that read the page before the acknowledgement can submit these entries again.
        self.queue
            .transitions()
            .expire_keys(&shard_of_deliveries(), &keys, 2 * PAGE_TIMEOUT)
            .await?;
        outbox.postpone(shard, &full, FULL_DELAY).await?;
        Ok(count)
    }

    /// Returns the jobs of `entries`. A damaged record counts as missing: one entry must not block the others.
    async fn jobs(&self, entries: &[End]) -> Result<Vec<Option<Job>>, Error> {
        let ids: Vec<JobId> = entries.iter().map(|entry| entry.job.clone()).collect();
        match self.queue.jobs(&ids).await {
            Err(Error::Corrupt(_)) => {}
            jobs => return jobs,
        }
        // One by one: the batch does not say which record is damaged.
        let mut jobs = Vec::with_capacity(ids.len());
        for id in &ids {
            jobs.push(match self.queue.jobs(std::slice::from_ref(id)).await {
                Err(Error::Corrupt(why)) => {
                    tracing::error!(job.id = %id, why, "a job with a webhook has a damaged record");
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
            Ok(_) => Ok(Submitted::Done(of.entries, keys)),
            Err(error @ Error::Full { .. }) => {
                let entries = of.entries.len();
                tracing::warn!(tenant.id = %tenant, entries, %error, "webhook events wait for room");
                Ok(Submitted::Full(of.entries))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the delivery of `entry`; `None` if its job is gone or the event cannot be built.
    fn delivery(&self, entry: &End, job: Option<&Job>) -> Option<NewJob> {
        let Some((job, webhook)) = job.and_then(|job| Some((job, job.spec.webhook.as_ref()?)))
        else {
            tracing::warn!(job.id = %entry.job, "a webhook event is dropped: its job was deleted");
            return None;
        };
        let event = WebhookEvent::of(entry, job, &webhook.subject)
            .inspect_err(
                |error| tracing::error!(job.id = %entry.job, %error, "cannot build a webhook event"),
            )
            .ok()?;
        let key = IdempotencyKey::new(&format!("webhook:{}", entry.name())).ok()?;
        let spec = Spec {
            url: webhook.url.clone(),
            headers: [(EVENT_ID.to_owned(), event.id.into())].into(),
            metadata: [("job", entry.job.to_string()), ("type", event.kind)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..Spec::default()
        };
        let drafted = self.queue.draft_delivery(job.tenant.clone(), spec, event.body);
        Some(NewJob {
            class: job.class,
            deadline: Some(DELIVERY_WINDOW),
            max_attempts: Schedule::attempts(),
            // The key identifies the event, so the digest of the request adds nothing.
            idempotency: Some(Idempotency {
                key,
                digest: [0; 32],
                ttl: DELIVERY_WINDOW,
                spans_job: false,
            }),
            ..drafted
        })
    }
}

#[cfg(test)]
mod tests;
