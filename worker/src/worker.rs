//! The worker: its loops, put together and ended in order.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_queue::{LaneName, Queue};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    attempt::Bench,
    consumer::Consumer,
    emitter::Emitter,
    heartbeat::Heartbeat,
    interrupt::{Interrupt, Running},
    reaper::Reaper,
    settings::Settings,
    stop::Stop,
    upstream::Upstream,
};

/// How long handing back may take at the end, before the process gives up.
const HAND_BACK: Duration = Duration::from_secs(5);

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    queue: Queue,
    settings: Arc<Settings>,
    upstreams: HashMap<LaneName, Arc<dyn Upstream>>,
    health: Arc<Health>,
}

/// What was left when a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were still running when the time was up; their jobs were handed back.
    pub handed_back: usize,
}

/// Whether the claim loops turn.
#[derive(Debug)]
pub struct Health {
    origin: Instant,
    /// When a loop last turned, in milliseconds after `origin`.
    turned_ms: AtomicU64,
}

impl Health {
    fn new() -> Self {
        Self { origin: Instant::now(), turned_ms: AtomicU64::new(0) }
    }

    pub(crate) fn turned(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned_ms.store(now, Ordering::Relaxed);
    }

    /// Whether a claim loop turned within the last `time`.
    #[must_use]
    pub fn is_alive(&self, time: Duration) -> bool {
        let turned = Duration::from_millis(self.turned_ms.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(turned) <= time
    }
}

impl Worker {
    /// A worker that serves the lanes for which there is an upstream.
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: Settings,
        upstreams: HashMap<LaneName, Arc<dyn Upstream>>,
    ) -> Self {
        let health = Arc::new(Health::new());
        Self { queue, settings: Arc::new(settings), upstreams, health }
    }

    /// The queue that it works on.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether its claim loops turn.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Works until `stop` asks it to stop, and then until nothing runs any more.
    pub async fn run(self, stop: Stop) -> Drained {
        let running = Arc::new(Running::default());
        let mut helpers = JoinSet::new();
        let heartbeat = Heartbeat {
            queue: self.queue.clone(),
            lease: self.settings.lease,
            running: Arc::clone(&running),
        };
        helpers.spawn(heartbeat.run());
        let reaper = Reaper {
            queue: self.queue.clone(),
            every: self.settings.reap_every,
            reconcile_every: self.settings.reconcile_every,
        };
        helpers.spawn(reaper.run());
        let mut consumers = self.consumers(&running, &stop, &mut helpers);
        let finish = async { while consumers.join_next().await.is_some() {} };
        tokio::pin!(finish);
        let handed_back = tokio::select! {
            () = &mut finish => return Drained { handed_back: 0 },
            left = end(&self.settings, &running, &stop) => left,
        };
        if tokio::time::timeout(HAND_BACK, finish).await.is_err() {
            tracing::error!("the store does not answer; leases run out by themselves");
        }
        Drained { handed_back }
    }

    fn consumers(
        &self,
        running: &Arc<Running>,
        stop: &Stop,
        helpers: &mut JoinSet<()>,
    ) -> JoinSet<()> {
        let permits = Arc::new(Semaphore::new(self.settings.concurrency.max(1)));
        let served: Vec<_> = self
            .queue
            .shards()
            .into_iter()
            .filter_map(|shard| Some((self.upstreams.get(&shard.lane)?, shard)))
            .collect();
        let mut consumers = JoinSet::new();
        for (upstream, shard) in &served {
            let emitter = Arc::new(Emitter::new(
                self.queue.clone(),
                shard.clone(),
                self.settings.emit_window,
                Arc::clone(running),
            ));
            helpers.spawn(Arc::clone(&emitter).run());
            let consumer = Consumer {
                shard: shard.clone(),
                bench: Bench {
                    queue: self.queue.clone(),
                    settings: Arc::clone(&self.settings),
                    upstream: Arc::clone(upstream),
                    emitter,
                },
                shards: served.len(),
                permits: Arc::clone(&permits),
                running: Arc::clone(running),
                health: Arc::clone(&self.health),
                stop: stop.clone(),
            };
            consumers.spawn(consumer.run());
        }
        consumers
    }
}

/// Ends when the time to finish is over: everything that still runs is interrupted then. Answers
/// how much that was.
async fn end(settings: &Settings, running: &Running, stop: &Stop) -> usize {
    stop.draining().await;
    tokio::select! {
        () = sleep(settings.drain) => {}
        () = stop.at_once() => {}
    }
    let left = running.len();
    running.interrupt_all(Interrupt::Released);
    left
}
