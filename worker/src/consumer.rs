//! The claim loop of one shard: each step ends the attempts that are over and begins as many as
//! there is room for.
//!
//! Settlements gather while a step is under way and go with the next (group commit). When there is
//! nothing to do the loop waits for a settlement, a wake-up of the store, the time that the last
//! step named, or room; never longer than [`LOOK_ANYWAY`], which is what a lost wake-up costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_queue::{
    Error, Lease, Outcome, Settlement, Shard,
    lease::{ClaimRequest, Settled},
    policy::MAX_CLAIM,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    attempt::{self, Bench},
    interrupt::Running,
    stop::Stop,
    worker::Health,
};

/// Longest wait without looking.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// First pause after the store failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

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

/// Where attempts hand in their settlements.
struct Inbox {
    settlements: mpsc::Receiver<Settlement>,
    pending: Vec<Settlement>,
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
        let mut inbox = Inbox { settlements, pending: Vec::new() };
        let mut attempts = JoinSet::new();
        let waiter = Arc::new(Waiter::default());
        let mut waiting = JoinSet::new();
        waiting.spawn(Arc::clone(&waiter).run(self.bench.queue.clone(), self.shard.clone()));
        let mut pause = PAUSE.0;
        let mut failing = false;
        loop {
            self.health.turned();
            inbox.gather();
            while attempts.try_join_next().is_some() {}
            let room = self.room();
            match self.turn(&mut inbox, room, &mut attempts, &sender).await {
                Ok(turn) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(shard = %self.shard, "the store is back");
                    }
                    pause = PAUSE.0;
                    let is_over = attempts.is_empty() && inbox.is_empty();
                    if self.stop.is_draining() && is_over {
                        return;
                    }
                    if !turn.again && inbox.is_empty() {
                        self.wait(&mut inbox, &waiter, turn.look_again, &mut attempts).await;
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
        inbox: &mut Inbox,
        mut room: Option<OwnedSemaphorePermit>,
        attempts: &mut JoinSet<()>,
        sender: &mpsc::Sender<Settlement>,
    ) -> Result<Turn, Error> {
        let max = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let claim = ClaimRequest { max, lease: self.bench.settings.lease };
        let settling = inbox.pending.len();
        let is_to_be_told = inbox.pending.iter().any(Settlement::has_webhook);
        let step = self.bench.queue.backend().step(&self.shard, &mut inbox.pending, claim).await?;
        if is_to_be_told {
            // The courier finds by itself what it was not told in time.
            drop(self.ends.try_send(self.shard.clone()));
        }
        let lost = step.settled.iter().filter(|settled| **settled == Settled::Lost).count();
        if lost > 0 {
            tracing::warn!(shard = %self.shard, lost, "settlements came after their leases were lost");
        }
        metrics::histogram!("causeway_step_settled").record(as_f64(settling));
        metrics::histogram!("causeway_step_claimed").record(as_f64(step.leases.len()));
        let again = max > 0 && step.leases.len() == max;
        for lease in step.leases {
            if self.stop.is_draining() {
                inbox.pending.push(lease.settle(Outcome::Released, None));
            } else if let Some(permit) = room.as_mut().and_then(|room| room.split(1)) {
                self.begin(lease, permit, attempts, sender.clone());
            }
        }
        metrics::gauge!("causeway_running").set(as_f64(self.running.len()));
        let look_again = step.look_again.map_or(LOOK_ANYWAY, |after| after.min(LOOK_ANYWAY));
        Ok(Turn { look_again: Instant::now() + look_again, again })
    }

    fn begin(
        &self,
        lease: Lease,
        permit: OwnedSemaphorePermit,
        attempts: &mut JoinSet<()>,
        sender: mpsc::Sender<Settlement>,
    ) {
        if lease.key.epoch == 1 {
            let waited = lease.claimed_at.since(lease.created_at);
            metrics::histogram!("causeway_pickup_seconds").record(waited.as_secs_f64());
        }
        let (place, interrupts) = self.running.enter(&lease.key);
        let bench = self.bench.clone();
        attempts.spawn(async move {
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

    /// Waits until there is something to do.
    async fn wait(
        &self,
        inbox: &mut Inbox,
        waiter: &Waiter,
        look_again: Instant,
        attempts: &mut JoinSet<()>,
    ) {
        let is_draining = self.stop.is_draining();
        let has_room = !is_draining && self.permits.available_permits() > 0;
        if has_room {
            waiter.ask.notify_one();
        }
        tokio::select! {
            settlement = inbox.settlements.recv() => inbox.pending.extend(settlement),
            // Without room the step that follows wakes another, as long as there is work.
            () = waiter.woken.notified() => {}
            () = sleep_until(look_again), if has_room => {}
            _ = self.permits.acquire(), if !has_room && !is_draining => {}
            () = self.stop.draining(), if !is_draining => {}
            // While it drains, the end of an attempt without a settlement counts too.
            Some(_) = attempts.join_next(), if is_draining => {}
            () = sleep(LOOK_ANYWAY) => {}
        }
    }
}

impl Inbox {
    /// Takes what has come.
    fn gather(&mut self) {
        while let Ok(settlement) = self.settlements.try_recv() {
            self.pending.push(settlement);
        }
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.settlements.is_empty()
    }
}

/// Waits for the store's wake-ups, one wait at a time, in a task of its own: a wait that was given
/// up in the middle could take a wake-up with it.
#[derive(Debug, Default)]
struct Waiter {
    ask: Notify,
    woken: Notify,
}

impl Waiter {
    async fn run(self: Arc<Self>, queue: causeway_queue::Queue, shard: Shard) {
        loop {
            self.ask.notified().await;
            let wait = queue.backend().wait_for_work(&shard, LOOK_ANYWAY);
            // The store's own bound is shorter; this one is for a store that never answers.
            if let Ok(Err(error)) = timeout(LOOK_ANYWAY * 5, wait).await {
                tracing::debug!(%error, "cannot wait for work");
                sleep(PAUSE.1).await;
            }
            self.woken.notify_one();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
