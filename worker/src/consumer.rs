//! The claim loop of one shard: each step ends the attempts that are over and begins as many as
//! there is room for.
//!
//! Settlements gather while a step is under way and go with the next (group commit). When there is
//! nothing to do the loop waits for a settlement, a wake-up of the store, the time that the last
//! step named, or room; never longer than [`LOOK_ANYWAY`], which is what a lost wake-up costs. A
//! wake-up brings a job along, so that an idle worker begins it after one round trip.

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

use crate::{
    attempt::{self, Bench, logged},
    interrupt::Running,
    measure,
    stop::Stop,
    worker::Health,
};

/// Longest wait without looking.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// First pause after the store failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a lane must wait for its upstream for one WARN line.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// The loop of one shard.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) shard: Shard,
    pub(crate) bench: Bench,
    /// How many shards share the permits.
    pub(crate) shards: Arc<AtomicUsize>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) running: Arc<Running>,
    pub(crate) health: Arc<Health>,
    pub(crate) stop: Stop,
    /// Where the courier is told that jobs with webhooks have ended.
    pub(crate) ends: mpsc::Sender<Shard>,
}

/// The attempts under way, and where they hand in their settlements.
struct Attempts {
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Settlement>,
    settlements: mpsc::Receiver<Settlement>,
    pending: Vec<Settlement>,
    /// Until when the lane waits by the latest WARN line.
    refused_until: Option<Instant>,
}

/// What a turn of the loop found.
struct Turn {
    /// When there may be work without a wake-up.
    look_again: Instant,
    /// Whether another turn may find more at once.
    again: bool,
}

impl Consumer {
    /// Claims and settles until it is told to drain and nothing runs any more.
    pub(crate) async fn run(self) {
        let (sender, settlements) = mpsc::channel(self.bench.settings.concurrency.max(1));
        let (tasks, pending, refused_until) = Default::default();
        let mut attempts = Attempts { tasks, sender, settlements, pending, refused_until };
        let mut wait = JoinSet::new();
        let mut pause = PAUSE.0;
        let mut failing = false;
        loop {
            self.health.turned();
            attempts.gather();
            // Nobody keeps the lease of what a wake-up brought until it has begun.
            while let Some(woken) = wait.try_join_next() {
                self.take_woken(&mut attempts, woken);
            }
            let room = self.room();
            match self.turn(&mut attempts, room).await {
                Ok(turn) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(shard = %self.shard, "the store is back");
                    }
                    pause = PAUSE.0;
                    let is_over = attempts.tasks.is_empty() && attempts.are_settled();
                    if self.stop.is_draining() && is_over && wait.is_empty() {
                        return;
                    }
                    if !turn.again && attempts.are_settled() {
                        self.wait(&mut attempts, &mut wait, turn.look_again).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(shard = %self.shard, %error, "the store fails; running calls go on");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Permits for as many attempts as this shard may begin now.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        if self.stop.is_draining() {
            return None;
        }
        let free = self.permits.available_permits();
        let shards = self.shards.load(Ordering::Relaxed).max(1);
        let share = free.div_ceil(shards).min(MAX_CLAIM);
        let count = u32::try_from(share).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.permits).try_acquire_many_owned(count).ok();
        permits.filter(|_| count > 0)
    }

    /// One step of the store.
    async fn turn(
        &self,
        attempts: &mut Attempts,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Turn, Error> {
        let max = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let claim = ClaimRequest { max, lease: self.bench.settings.lease };
        let settling = attempts.pending.len();
        let is_to_be_told = attempts.pending.iter().any(Settlement::has_webhook);
        let faults: Vec<Option<Trouble>> = attempts.pending.iter().map(Trouble::of).collect();
        let step =
            self.bench.queue.backend().step(&self.shard, &mut attempts.pending, claim).await?;
        for (trouble, settled) in faults.into_iter().zip(&step.settled) {
            self.heed(*settled, trouble, &mut attempts.refused_until).await;
        }
        if is_to_be_told {
            // The courier finds by itself what it was not told in time.
            drop(self.ends.try_send(self.shard.clone()));
        }
        let lost = step.settled.iter().filter(|settled| **settled == Settled::Lost).count();
        if lost > 0 {
            tracing::warn!(shard = %self.shard, lost, "settlements came after their leases were lost");
        }
        metrics::histogram!("causeway_step_settled").record(as_f64(settling));
        let again = max > 0 && step.leases.len() == max;
        let look_again = self.take(attempts, step, room);
        Ok(Turn { look_again, again })
    }

    /// Logs what came of a faulted attempt, and cools down the sibling shards after a rate limit.
    async fn heed(
        &self,
        settled: Settled,
        trouble: Option<Trouble>,
        refused_until: &mut Option<Instant>,
    ) {
        match (settled, trouble) {
            (Settled::LaneWaits, Some(Trouble { fault: Fault::Rate(delay), error, .. })) => {
                self.warn_of_wait(delay, &error, refused_until);
                self.cool_down_siblings(delay).await;
            }
            (Settled::Failed, Some(Trouble { key, model, error, .. })) => {
                tracing::warn!(
                    job.id = %key.job, tenant.id = %key.tenant, lane = %self.shard.lane, model,
                    attempt = error.attempt, code = error.code, status = error.status_code,
                    reason = logged(&error.message), "a job failed"
                );
            }
            (Settled::LaneDown, Some(Trouble { error, .. })) => {
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

    /// Logs a long wait that the upstream demands, once for all calls that were refused at the same time.
    fn warn_of_wait(
        &self,
        delay: Duration,
        error: &AttemptError,
        refused_until: &mut Option<Instant>,
    ) {
        let until = Instant::now() + delay;
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

    /// Has the lane's other shards wait, too: they share the upstream that asked for it.
    async fn cool_down_siblings(&self, delay: Duration) {
        let stopped = self.bench.queue.stop_beside(&self.shard, delay).await;
        if let Err(error) = stopped {
            tracing::warn!(shard = %self.shard, %error, "cannot make the lane's other shards wait");
        }
    }

    /// Begins what a step brought, and hands back what there is no room for; answers when to look again.
    fn take(
        &self,
        attempts: &mut Attempts,
        step: Step,
        mut room: Option<OwnedSemaphorePermit>,
    ) -> Instant {
        metrics::histogram!("causeway_step_claimed").record(as_f64(step.leases.len()));
        for lease in step.leases {
            let permit = room.as_mut().and_then(|room| room.split(1));
            match permit.filter(|_| !self.stop.is_draining()) {
                Some(permit) => self.begin(attempts, lease, permit),
                None => attempts
                    .pending
                    .push(lease.settle(Outcome::Released { delay: Duration::ZERO }, None)),
            }
        }
        metrics::gauge!("causeway_running").set(as_f64(self.running.len()));
        Instant::now() + step.look_again.map_or(LOOK_ANYWAY, |after| after.min(LOOK_ANYWAY))
    }

    /// Begins what a wake-up brought; answers when to look again.
    fn take_woken(
        &self,
        attempts: &mut Attempts,
        woken: Result<Option<Step>, JoinError>,
    ) -> Instant {
        let Ok(Some(step)) = woken else { return Instant::now() };
        let room = Arc::clone(&self.permits).try_acquire_owned().ok();
        self.take(attempts, step, room)
    }

    fn begin(&self, attempts: &mut Attempts, lease: Lease, permit: OwnedSemaphorePermit) {
        measure::started(&lease);
        let (place, interrupts) = self.running.enter(&lease.key);
        let (bench, sender) = (self.bench.clone(), attempts.sender.clone());
        attempts.tasks.spawn(async move {
            let settlement = attempt::run(&bench, lease, interrupts).await;
            drop(permit);
            if let Some(settlement) = settlement {
                // Fails only when the loop is gone, and with it the process.
                drop(sender.send(settlement).await);
            }
            // The lease is kept alive until its settlement is on its way.
            drop(place);
        });
    }

    /// Waits until there is something to do. `wait` is the wait for the store's wake-up, where one is
    /// under way: it outlives this call, since one that was given up could take a job with it.
    async fn wait(
        &self,
        attempts: &mut Attempts,
        wait: &mut JoinSet<Option<Step>>,
        mut look_again: Instant,
    ) {
        loop {
            let is_draining = self.stop.is_draining();
            let has_room = !is_draining && self.permits.available_permits() > 0;
            if has_room && wait.is_empty() {
                wait.spawn(self.woken());
            }
            tokio::select! {
                settlement = attempts.settlements.recv() => attempts.pending.extend(settlement),
                Some(woken) = wait.join_next() => {
                    look_again = self.take_woken(attempts, woken);
                    // What it brought may be all there is: then the wait goes on.
                    let goes_on = look_again > Instant::now() && !self.stop.is_draining();
                    if goes_on && attempts.are_settled() {
                        self.health.turned();
                        continue;
                    }
                }
                () = sleep_until(look_again), if has_room => {}
                _ = self.permits.acquire(), if !has_room && !is_draining => {}
                () = self.stop.draining(), if !is_draining => {}
                // While it drains, the end of an attempt without a settlement counts too.
                Some(_) = attempts.tasks.join_next(), if is_draining => {}
                () = sleep(LOOK_ANYWAY) => {}
            }
            return;
        }
    }

    /// Waits for the store's wake-up, and begins one attempt when it comes. `None` when the store failed.
    fn woken(&self) -> impl Future<Output = Option<Step>> + use<> {
        let (queue, shard, stop) =
            (self.bench.queue.clone(), self.shard.clone(), self.stop.clone());
        let claim = ClaimRequest { max: 1, lease: self.bench.settings.lease };
        async move {
            let stopped = pin!(stop.draining());
            let wait = queue.backend().claim_when_woken(&shard, LOOK_ANYWAY, claim, stopped);
            // The store's own bounds are shorter; this one is for a store that never answers.
            match timeout(LOOK_ANYWAY * 10, wait).await {
                Ok(Ok(step)) => return Some(step),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot wait for work");
                    drop(timeout(PAUSE.1, stop.draining()).await);
                }
                Err(_) => {}
            }
            None
        }
    }
}

impl Attempts {
    /// Takes the settlements that have come, and forgets the tasks that have ended.
    fn gather(&mut self) {
        while let Ok(settlement) = self.settlements.try_recv() {
            self.pending.push(settlement);
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Whether no settlement waits for a step.
    fn are_settled(&self) -> bool {
        self.pending.is_empty() && self.settlements.is_empty()
    }
}

/// A faulted attempt.
struct Trouble {
    key: LeaseKey,
    model: String,
    fault: Fault,
    error: AttemptError,
}

impl Trouble {
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
