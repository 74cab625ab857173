//! The worker: starts its loops, and shuts them down in order.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_queue::{LaneName, Queue, Shard, webhook::is_of_deliveries};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{
        AttemptContext,
        emitter::Emitter,
        interrupt::{Interrupt, Running},
        verdict::Rules,
    },
    loops::{
        consumer::Consumer, heartbeat::Heartbeat, loop_health::LoopHealth, presence::Presence,
        reaper::Reaper,
    },
    settings::WorkerSettings,
    stop::Stop,
    upstream::{call::Upstream, memory::AnswerMemory},
    webhook::{
        outbox_relay::{self, OutboxRelay},
        schedule::Schedule,
    },
};

/// Time-out of handing back the running jobs at the end. After it the process exits, and their leases expire.
const HAND_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    queue: Queue,
    settings: Arc<WorkerSettings>,
    upstreams: HashMap<LaneName, Arc<dyn Upstream>>,
    health: Arc<LoopHealth>,
}

/// The result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were still running at the end of the drain; their jobs were handed back.
    pub handed_back: usize,
}

impl Worker {
    /// Creates a worker that serves the lanes of `upstreams`. The upstream of the lane
    /// [`webhooks`](LaneName::webhooks) is a [`Deliverer`](crate::Deliverer).
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: WorkerSettings,
        upstreams: HashMap<LaneName, Arc<dyn Upstream>>,
    ) -> Self {
        let health = Arc::new(LoopHealth::new());
        Self { queue, settings: Arc::new(settings), upstreams, health }
    }

    /// Returns the queue of this worker.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Returns the health of the claim loops, to be checked while the worker runs.
    #[must_use]
    pub fn health(&self) -> Arc<LoopHealth> {
        Arc::clone(&self.health)
    }

    /// Runs until `stop` signals the end and no attempt runs any more.
    pub async fn run(self, stop: Stop) -> Drained {
        let running = Arc::<Running>::default();
        let presence = Presence::new(
            &self.queue,
            &self.settings,
            self.lanes(),
            (&running, &self.health),
            &stop,
        );
        // The first entry is written before any job is claimed; the last is removed after all work.
        presence.step().await;
        let (finished, mut presences) = (CancellationToken::new(), JoinSet::new());
        presences.spawn(presence.run(finished.clone()));
        let drained = self.work(&stop, running).await;
        finished.cancel();
        presences.join_next().await;
        drained
    }

    /// Returns the lanes with an upstream, in the order of the configuration.
    fn lanes(&self) -> Vec<LaneName> {
        let lanes = self.queue.lanes().iter().map(|lane| &lane.name);
        lanes.filter(|lane| self.upstreams.contains_key(lane)).cloned().collect()
    }

    /// Runs all loops until the consumers have ended. The other loops end when they are dropped.
    async fn work(&self, stop: &Stop, running: Arc<Running>) -> Drained {
        let (webhook_shards, notifications) = mpsc::channel(outbox_relay::MAX_NOTIFICATIONS);
        let mut loops = Loops::new(self, stop, Arc::clone(&running), webhook_shards);
        let heartbeat = Heartbeat {
            queue: self.queue.clone(),
            lease: self.settings.lease,
            running: Arc::clone(&running),
        };
        loops.background_tasks.spawn(heartbeat.run());
        let reaper = Reaper {
            queue: self.queue.clone(),
            every: self.settings.reap_every,
            reconcile_every: self.settings.reconcile_every,
        };
        loops.background_tasks.spawn(reaper.run());
        let relay = OutboxRelay { queue: self.queue.clone(), notifications };
        loops.background_tasks.spawn(relay.run());
        // A capacity of one: the search pauses until the previous list was handled.
        let (found, mut former) = mpsc::channel(1);
        // If the channel is full, the next discovery finds the same shards.
        let found = move |shards| drop(found.try_send(shards));
        loops
            .background_tasks
            .spawn(self.queue.clone().watch(self.settings.reconcile_every, found));
        for shard in self.queue.shards() {
            loops.serve(shard);
        }
        let mut drained = pin!(drain(&self.settings, &running, stop));
        let handed_back = loop {
            tokio::select! {
                ended = loops.consumers.join_next() => if ended.is_none() {
                    return Drained { handed_back: 0 };
                },
                Some(shards) = former.recv(), if !stop.is_draining() => loops.take_over(shards),
                left = &mut drained => break left,
            }
        };
        // The interrupted attempts settle as released; the claim loops end once those settlements are stored.
        let finish = async { while loops.consumers.join_next().await.is_some() {} };
        if tokio::time::timeout(HAND_BACK_TIMEOUT, finish).await.is_err() {
            tracing::error!(
                "the store does not answer; the leases of running jobs expire by themselves"
            );
        }
        Drained { handed_back }
    }
}

/// The permits of one kind of attempts. Calls and deliveries have separate pools, so neither blocks the other.
struct Pool {
    permits: Arc<Semaphore>,
    /// The number of shards that share the permits; all consumers see it change.
    shards: Arc<AtomicUsize>,
    rules: Rules,
}

impl Pool {
    fn new(concurrency: usize, rules: Rules) -> Self {
        let permits = Arc::new(Semaphore::new(concurrency.max(1)));
        Self { permits, shards: Arc::default(), rules }
    }
}

/// The loops of a running worker.
struct Loops<'a> {
    worker: &'a Worker,
    stop: &'a Stop,
    running: Arc<Running>,
    calls: Pool,
    deliveries: Pool,
    /// The shards with loops here, and the former ones that cannot be served.
    served: HashSet<Shard>,
    webhook_shards: mpsc::Sender<Shard>,
    memory: Arc<AnswerMemory>,
    consumers: JoinSet<()>,
    background_tasks: JoinSet<()>,
}

impl<'a> Loops<'a> {
    fn new(
        worker: &'a Worker,
        stop: &'a Stop,
        running: Arc<Running>,
        webhook_shards: mpsc::Sender<Shard>,
    ) -> Self {
        let WorkerSettings {
            concurrency,
            backoff,
            webhooks,
            max_response_memory,
            max_response_bytes,
            ..
        } = &*worker.settings;
        let schedule = Schedule::new(webhooks.retry_base);
        Self {
            worker,
            stop,
            running,
            calls: Pool::new(*concurrency, Rules::Calls(*backoff)),
            deliveries: Pool::new(webhooks.concurrency, Rules::Deliveries(schedule)),
            served: HashSet::new(),
            webhook_shards,
            memory: AnswerMemory::new(*max_response_memory, *max_response_bytes),
            consumers: JoinSet::new(),
            background_tasks: JoinSet::new(),
        }
    }

    /// Starts the loops of `shard`, if its lane has an upstream here and it is not served yet.
    fn serve(&mut self, shard: Shard) {
        let Worker { queue, settings, upstreams, health } = self.worker;
        let Some(upstream) = upstreams.get(&shard.lane) else { return };
        if !self.served.insert(shard.clone()) {
            return;
        }
        let pool = if is_of_deliveries(&shard.lane) { &self.deliveries } else { &self.calls };
        // The consumers of the pool divide its permits by this number.
        pool.shards.fetch_add(1, Ordering::Relaxed);
        let emitter = Arc::new(Emitter::new(
            queue.clone(),
            shard.clone(),
            settings.emit_window,
            Arc::clone(&self.running),
        ));
        self.background_tasks.spawn(Arc::clone(&emitter).run());
        let consumer = Consumer {
            shard,
            context: AttemptContext {
                queue: queue.clone(),
                settings: Arc::clone(settings),
                upstream: Arc::clone(upstream),
                emitter,
                rules: pool.rules,
                memory: Arc::clone(&self.memory),
            },
            shards: Arc::clone(&pool.shards),
            permits: Arc::clone(&pool.permits),
            running: Arc::clone(&self.running),
            health: Arc::clone(health),
            stop: self.stop.clone(),
            webhook_shards: self.webhook_shards.clone(),
        };
        self.consumers.spawn(consumer.run());
    }

    /// Serves former shards with unfinished jobs, too, until this process ends.
    fn take_over(&mut self, shards: Vec<Shard>) {
        for shard in shards {
            if self.served.contains(&shard) {
                continue;
            }
            if self.worker.upstreams.contains_key(&shard.lane) {
                tracing::info!(shard = %shard, "a former shard still holds jobs; this worker serves it");
                self.serve(shard);
            } else {
                tracing::warn!(shard = %shard, "jobs wait in a lane without an upstream on this worker");
                self.served.insert(shard);
            }
        }
    }
}

/// Waits until the drain is over, then interrupts all running attempts. Returns their number.
async fn drain(settings: &WorkerSettings, running: &Running, stop: &Stop) -> usize {
    stop.draining().await;
    tokio::select! {
        () = sleep(settings.drain) => {}
        () = stop.at_once() => {}
    }
    let left = running.len();
    // An attempt that is interrupted as released is handed back, so another worker continues at once.
    running.interrupt_all(Interrupt::Released);
    left
}
