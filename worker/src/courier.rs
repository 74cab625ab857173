//! Hands on the ends that are to be told: makes a delivery of each, an ordinary job in the lane
//! `webhooks`, and then takes it out of the outbox. Between the two it may die: the delivery has the
//! end's name as its idempotency key, so whoever comes next makes no second one.
//!
//! Every worker does this for every shard. It is nudged when this worker has ended a job with a webhook;
//! ends that come about elsewhere (a cancel, a dead worker) are found by looking.

use std::{collections::BTreeSet, time::Duration};

use causeway_queue::{
    Error, IdempotencyKey, Job, NewJob, Queue, Shard, Spec,
    job::Idempotency,
    webhook::{End, MAX_OUTBOX_PAGE},
};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    notice::Notice,
    schedule::{LIFE, Schedule},
    upstream::webhook::EVENT_ID,
};

/// How often all outboxes are looked into.
pub(crate) const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// Most shards that wait to be looked into sooner; what has no room is found by looking anyway.
pub(crate) const NUDGES: usize = 64;

/// The courier of one worker.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) queue: Queue,
    /// Shards in which this worker has ended jobs with a webhook.
    pub(crate) nudges: mpsc::Receiver<Shard>,
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

    /// Hands on all that is in a shard's outbox. What the store refuses stays there until the next look.
    async fn empty(&self, shard: &Shard) {
        loop {
            match self.step(shard).await {
                Ok(count) if count == MAX_OUTBOX_PAGE => {}
                Ok(_) => return,
                Err(error @ Error::Full { .. }) => {
                    tracing::warn!(shard = %shard, %error, "ends wait until there is room for their deliveries");
                    return;
                }
                Err(error) => {
                    tracing::debug!(shard = %shard, %error, "ends cannot be handed on now");
                    return;
                }
            }
        }
    }

    /// Hands on a page of ends; answers how many it had.
    pub(crate) async fn step(&self, shard: &Shard) -> Result<usize, Error> {
        let ends = self.queue.backend().outbox(shard, MAX_OUTBOX_PAGE).await?;
        if ends.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = ends.iter().map(|end| end.job.clone()).collect();
        let jobs = self.queue.jobs(&ids).await?;
        let deliveries: Vec<NewJob> = ends
            .iter()
            .zip(&jobs)
            .filter_map(|(end, job)| self.delivery(end, job.as_ref()))
            .collect();
        if !deliveries.is_empty() {
            self.queue.submit(deliveries).await?;
        }
        self.queue.backend().take_out(shard, &ends).await?;
        Ok(ends.len())
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
