//! The claim loop of one shard. Each iteration settles finished attempts and starts new ones within the permits.
//!
//! Settlements that arrive during a call to the store go with the next call (group commit). An idle loop waits
//! for a settlement, a wake-up of the store, the time that the last step named, or a permit; at most for
//! [`POLL_INTERVAL`], the delay after a lost wake-up. A wake-up carries one claimed job, so an idle worker
//! starts it after one round trip.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_queue::{
    Error, Fault, Lease, LeaseKey, Outcome, Settlement, Shard,
    job::AttemptError,
    lease::{ClaimRequest, Settled, Step},
    policy::MAX_CLAIM,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::loop_health::LoopHealth;
use crate::{
    attempt::{
        interrupt::Running,
        measure, {self, AttemptContext, logged},
    },
    stop::Stop,
};

/// Longest wait before the store is polled again.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// First and longest pause between calls to a store that fails.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Waits of a lane above this are logged as a warning.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// The claim loop of one shard.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) shard: Shard,
    pub(crate) context: AttemptContext,
    /// The number of shards that share the permits.
    pub(crate) shards: Arc<AtomicUsize>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) running: Arc<Running>,
    pub(crate) health: Arc<LoopHealth>,
    pub(crate) stop: Stop,
    /// Notifies the outbox relay of shards with newly ended jobs that have a webhook.
    pub(crate) webhook_shards: mpsc::Sender<Shard>,
}

/// The running attempts, and the channel of their settlements.
struct Attempts {
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Settlement>,
    settlements: mpsc::Receiver<Settlement>,
    pending: Vec<Settlement>,
    /// End of the wait in the latest warning; further refusals up to then are not logged again.
    refused_until: Option<Instant>,
}

/// The result of one iteration.
struct Iteration {
    /// Time of the next poll if no wake-up arrives.
    poll_at: Instant,
    /// True if the next iteration may claim more at once.
    may_claim_more: bool,
}

impl Consumer {
    /// Claims and settles until the worker drains and no attempt runs any more.
    pub(crate) async fn run(self) {
        let (sender, settlements) = mpsc::channel(self.context.settings.concurrency.max(1));
        let (tasks, pending, refused_until) = Default::default();
        let mut attempts = Attempts { tasks, sender, settlements, pending, refused_until };
        let mut wait = JoinSet::new();
        let mut pause = PAUSE.0;
        let mut failing = false;
        loop {
            self.health.record_iteration();
            attempts.collect();
            // No heartbeat extends the lease of a woken job until its attempt starts, so this comes first.
            while let Some(woken) = wait.try_join_next() {
                self.start_woken(&mut attempts, woken);
            }
            let room = self.room();
            match self.iterate(&mut attempts, room).await {
                Ok(iteration) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(shard = %self.shard, "the store answers again");
                    }
                    pause = PAUSE.0;
                    // A pending wake-up may hold a claimed job, which must be handed back before the loop ends.
                    let is_over = attempts.tasks.is_empty() && attempts.are_settled();
                    if self.stop.is_draining() && is_over && wait.is_empty() {
                        return;
                    }
                    if !iteration.may_claim_more && attempts.are_settled() {
                        self.wait(&mut attempts, &mut wait, iteration.poll_at).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(shard = %self.shard, %error, "a call to the store failed; running calls continue");
                    }
                    // The settlements stay in `pending`, and the next iteration sends them again.
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Acquires permits for as many attempts as this shard may start now.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        if self.stop.is_draining() {
            return None;
        }
        let free = self.permits.available_permits();
        let shards = self.shards.load(Ordering::Relaxed).max(1);
        // The free permits are divided among the shards: otherwise the first loop would claim for all of them.
        let share = free.div_ceil(shards).min(MAX_CLAIM);
        let count = u32::try_from(share).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.permits).try_acquire_many_owned(count).ok();
        permits.filter(|_| count > 0)
    }

    /// Performs one step of the store: settlements and claims in one call.
    async fn iterate(
        &self,
        attempts: &mut Attempts,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Iteration, Error> {
        let max = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let claim = ClaimRequest { max, lease: self.context.settings.lease };
        let settling = attempts.pending.len();
        let has_webhooks = attempts.pending.iter().any(Settlement::has_webhook);
        // The call drains `pending`, so what it needs of faulted attempts is copied before.
        let faults: Vec<Option<FaultedAttempt>> =
            attempts.pending.iter().map(FaultedAttempt::of).collect();
        let step = self
            .context
            .queue
            .transitions()
            .step(&self.shard, &mut attempts.pending, claim)
            .await?;
        for (faulted, settled) in faults.into_iter().zip(&step.settled) {
            self.report(*settled, faulted, &mut attempts.refused_until).await;
        }
        if has_webhooks {
            // A full channel loses nothing: the relay polls every outbox.
            drop(self.webhook_shards.try_send(self.shard.clone()));
        }
        let lost = step.settled.iter().filter(|settled| **settled == Settled::Lost).count();
        if lost > 0 {
            tracing::warn!(shard = %self.shard, lost, "settlements came after their leases were lost");
        }
        metrics::histogram!("causeway_step_settled").record(as_f64(settling));
        // A full batch suggests that more jobs are ready.
        let may_claim_more = max > 0 && step.leases.len() == max;
        let poll_at = self.start_claimed(attempts, step, room);
        Ok(Iteration { poll_at, may_claim_more })
    }

    /// Logs the result of a faulted attempt, and cools down the sibling shards after a rate limit.
    async fn report(
        &self,
        settled: Settled,
        faulted: Option<FaultedAttempt>,
        refused_until: &mut Option<Instant>,
    ) {
        match (settled, faulted) {
            (Settled::LaneWaits, Some(FaultedAttempt { fault: Fault::Rate(delay), error, .. })) => {
                self.warn_of_wait(delay, &error, refused_until);
                self.cool_down_siblings(delay).await;
            }
            (Settled::Failed, Some(FaultedAttempt { key, model, error, .. })) => {
                tracing::warn!(
                    job.id = %key.job, tenant.id = %key.tenant, lane = %self.shard.lane, model,
                    attempt = error.attempt, code = error.code, status = error.status_code,
                    reason = logged(&error.message), "a job failed"
                );
            }
            (Settled::LaneDown, Some(FaultedAttempt { error, .. })) => {
                metrics::counter!("causeway_cool_downs_total").increment(1);
                tracing::warn!(
                    shard = %self.shard, code = error.code, status = error.status_code,
                    reason = logged(&error.message),
                    "the upstream fails: the lane cools down, and one job at a time probes it"
                );
            }
            (Settled::LaneUp, _) => {
                tracing::info!(shard = %self.shard, "the upstream answers: the lane is open again");
            }
            (
                Settled::Done
                | Settled::Lost
                | Settled::Failed
                | Settled::LaneWaits
                | Settled::LaneDown,
                Some(_) | None,
            ) => {}
        }
    }

    /// Logs a long wait that the upstream demands, once for all calls that are refused at the same time.
    fn warn_of_wait(
        &self,
        delay: Duration,
        error: &AttemptError,
        refused_until: &mut Option<Instant>,
    ) {
        let until = Instant::now() + delay;
        // Calls that run at the time of the refusal are refused as well, with nearly the same end.
        let is_known = refused_until.is_some_and(|known| until < known + LONG_WAIT);
        if delay <= LONG_WAIT || is_known {
            return;
        }
        *refused_until = Some(until);
        tracing::warn!(
            shard = %self.shard, wait_s = delay.as_secs(), code = error.code, status = error.status_code,
            reason = logged(&error.message),
            "the upstream refuses requests: the lane waits; `causeway lane resume` ends the wait"
        );
    }

    /// Cools down the lane's other shards as well: they share the upstream that demands the wait.
    async fn cool_down_siblings(&self, delay: Duration) {
        let stopped = self.context.queue.stop_beside(&self.shard, delay).await;
        if let Err(error) = stopped {
            tracing::warn!(shard = %self.shard, %error, "cannot cool down the lane's other shards");
        }
    }

    /// Starts the claimed attempts, and hands back those without a permit. Returns the time of the next poll.
    fn start_claimed(
        &self,
        attempts: &mut Attempts,
        step: Step,
        mut room: Option<OwnedSemaphorePermit>,
    ) -> Instant {
        metrics::histogram!("causeway_step_claimed").record(as_f64(step.leases.len()));
        for lease in step.leases {
            let permit = room.as_mut().and_then(|room| room.split(1));
            match permit.filter(|_| !self.stop.is_draining()) {
                Some(permit) => self.start(attempts, lease, permit),
                None => attempts
                    .pending
                    .push(lease.settle(Outcome::Released { delay: Duration::ZERO }, None)),
            }
        }
        metrics::gauge!("causeway_running").set(as_f64(self.running.len()));
        Instant::now() + step.poll_after.map_or(POLL_INTERVAL, |after| after.min(POLL_INTERVAL))
    }

    /// Starts the attempt that a wake-up carried. Returns the time of the next poll.
    fn start_woken(
        &self,
        attempts: &mut Attempts,
        woken: Result<Option<Step>, JoinError>,
    ) -> Instant {
        let Ok(Some(step)) = woken else { return Instant::now() };
        // Without a free permit the job is handed back: calls may have taken the last one meanwhile.
        let room = Arc::clone(&self.permits).try_acquire_owned().ok();
        self.start_claimed(attempts, step, room)
    }

    fn start(&self, attempts: &mut Attempts, lease: Lease, permit: OwnedSemaphorePermit) {
        measure::started(&lease);
        let (entry, interrupts) = self.running.enter(&lease.key);
        let (context, sender) = (self.context.clone(), attempts.sender.clone());
        attempts.tasks.spawn(async move {
            let settlement = attempt::run(&context, lease, interrupts).await;
            // The permit is free before the settlement arrives, so one step can settle and claim.
            drop(permit);
            if let Some(settlement) = settlement {
                // Fails only if the loop has ended, and the process with it.
                drop(sender.send(settlement).await);
            }
            // The heartbeat extends the lease until the settlement is on its way.
            drop(entry);
        });
    }

    /// Waits until there is work. `wait` holds the pending wait for the store's wake-up. It outlives this
    /// call, because a wait that is dropped could lose a job that it has already claimed.
    async fn wait(
        &self,
        attempts: &mut Attempts,
        wait: &mut JoinSet<Option<Step>>,
        mut poll_at: Instant,
    ) {
        loop {
            let is_draining = self.stop.is_draining();
            // Without room a wake-up would claim a job that has to be handed back.
            let has_room = !is_draining && self.permits.available_permits() > 0;
            if has_room && wait.is_empty() {
                wait.spawn(self.woken());
            }
            tokio::select! {
                settlement = attempts.settlements.recv() => attempts.pending.extend(settlement),
                Some(woken) = wait.join_next() => {
                    poll_at = self.start_woken(attempts, woken);
                    // If the wake-up carried the only job, the wait continues.
                    let goes_on = poll_at > Instant::now() && !self.stop.is_draining();
                    if goes_on && attempts.are_settled() {
                        self.health.record_iteration();
                        continue;
                    }
                }
                () = sleep_until(poll_at), if has_room => {}
                _ = self.permits.acquire(), if !has_room && !is_draining => {}
                () = self.stop.draining(), if !is_draining => {}
                // While draining, an attempt may end without a settlement (a lost lease).
                Some(_) = attempts.tasks.join_next(), if is_draining => {}
                () = sleep(POLL_INTERVAL) => {}
            }
            return;
        }
    }

    /// Waits for the store's wake-up and claims one job with it. The future returns `None` if the store fails.
    fn woken(&self) -> impl Future<Output = Option<Step>> + use<> {
        let (queue, shard, stop) =
            (self.context.queue.clone(), self.shard.clone(), self.stop.clone());
        let claim = ClaimRequest { max: 1, lease: self.context.settings.lease };
        async move {
            let stopped = pin!(stop.draining());
            let wait = queue.transitions().claim_when_woken(&shard, POLL_INTERVAL, claim, stopped);
            // The store's own time-outs are shorter; this one is for a store that never answers.
            match timeout(POLL_INTERVAL * 10, wait).await {
                Ok(Ok(step)) => return Some(step),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot wait for work");
                    // The pause keeps a failing store from being called in a loop.
                    drop(timeout(PAUSE.1, stop.draining()).await);
                }
                Err(_) => {}
            }
            None
        }
    }
}

impl Attempts {
    /// Collects the settlements that have arrived, and removes the tasks that have ended.
    fn collect(&mut self) {
        while let Ok(settlement) = self.settlements.try_recv() {
            self.pending.push(settlement);
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// True if no settlement waits for a step.
    fn are_settled(&self) -> bool {
        self.pending.is_empty() && self.settlements.is_empty()
    }
}

/// A faulted attempt, with the data for its log line.
struct FaultedAttempt {
    key: LeaseKey,
    model: String,
    fault: Fault,
    error: AttemptError,
}

impl FaultedAttempt {
    fn of(settlement: &Settlement) -> Option<Self> {
        match &settlement.outcome {
            Outcome::Faulted { fault, error, .. } => {
                let model = settlement.model.clone().unwrap_or_default();
                let (key, error) = (settlement.key.clone(), error.clone());
                Some(Self { key, model, fault: *fault, error })
            }
            Outcome::Succeeded { .. }
            | Outcome::Failed { .. }
            | Outcome::Retry { .. }
            | Outcome::Released { .. }
            | Outcome::Cancelled
            | Outcome::Expired => None,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
