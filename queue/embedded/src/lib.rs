//! The engine inside the process: the default store, in memory, and the specification that the Redis engine must
//! equal. No state survives the process.

#[cfg(feature = "audit")]
mod audit;
mod engine;
mod flows;
mod health;
mod orphans;
mod outbox;
mod record;
mod sessions;
mod store;
mod view;
mod workers;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "audit")]
use causeway_queue::audit::Audit;
use tokio::sync::Notify;

use self::{
    engine::{Engine, Told},
    orphans::OrphanTable,
    workers::Registry,
};
use causeway_queue::{
    clock::{Clock, Millis},
    directory::Directory,
    id::{Layout, Shard, TenantId},
    news::{News, Switchboard},
    policy::Policy,
};

/// The embedded store.
pub struct Embedded {
    policy: Policy,
    clock: Arc<dyn Clock>,
    news: Arc<Switchboard>,
    shards: Mutex<HashMap<Shard, Arc<Cell>>>,
    /// By the time of their last use.
    layouts: Mutex<BTreeMap<Layout, Millis>>,
    directory: Mutex<Directory>,
    workers: Mutex<Registry>,
}

/// One shard: its engine, and the signal for its idle workers.
#[derive(Debug)]
struct Cell {
    engine: Mutex<Engine>,
    buckets: Mutex<Buckets>,
    orphans: Mutex<OrphanTable>,
    work: Notify,
}

/// The number of buckets below which full ones are not removed.
const CROWDED: usize = 1000;

/// The rate limits of callers: the TAT of each bucket.
#[derive(Debug, Default)]
struct Buckets {
    tats: HashMap<(TenantId, String), f64>,
    /// The number of buckets at which full ones are removed.
    crowded: usize,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("policy", &self.policy).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread must not disable the store.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Embedded {
    /// Returns an empty store that takes the time from `clock`.
    #[must_use]
    pub fn new(policy: Policy, clock: Arc<dyn Clock>) -> Self {
        let news = Arc::new(Switchboard::default());
        let (shards, layouts, directory, workers) = Default::default();
        Self { policy, clock, news, shards, layouts, directory, workers }
    }

    fn cell(&self, shard: &Shard) -> Arc<Cell> {
        let mut shards = lock(&self.shards);
        if let Some(cell) = shards.get(shard) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(self.new_cell(shard));
        shards.insert(shard.clone(), Arc::clone(&cell));
        cell
    }

    fn new_cell(&self, shard: &Shard) -> Cell {
        Cell {
            engine: Mutex::new(Engine::new(shard.clone(), self.policy.clone())),
            buckets: Mutex::default(),
            orphans: Mutex::default(),
            work: Notify::new(),
        }
    }

    /// Returns the shard's cell, or an empty one that is not stored: clients may name shards that never existed.
    fn peek(&self, shard: &Shard) -> Arc<Cell> {
        let found = lock(&self.shards).get(shard).map(Arc::clone);
        found.unwrap_or_else(|| Arc::new(self.new_cell(shard)))
    }

    /// Runs one transition, then wakes a worker and publishes the news.
    fn transition<T>(&self, shard: &Shard, run: impl FnOnce(&mut Engine, Millis) -> T) -> T {
        self.transition_of(&self.cell(shard), run)
    }

    fn transition_of<T>(&self, cell: &Cell, run: impl FnOnce(&mut Engine, Millis) -> T) -> T {
        let (answer, told, wake) = {
            let mut engine = lock(&cell.engine);
            let answer = run(&mut engine, self.clock.now());
            (answer, std::mem::take(&mut engine.told), std::mem::take(&mut engine.wake))
        };
        // Only after the lock is released: a woken worker or listener may call the engine at once.
        if wake {
            cell.work.notify_one();
        }
        for told in told {
            match told {
                Told::Ended(id, status) => self.news.tell(&id, News::Ended(status)),
                Told::Event(id, event) => self.news.tell(&id, News::Event(Arc::new(event))),
                Told::Cancel(id) => self.news.tell(&id, News::Cancel),
            }
        }
        answer
    }

    /// Checks the invariants of a shard.
    #[cfg(feature = "audit")]
    #[must_use]
    pub fn audit(&self, shard: &Shard) -> Audit {
        self.look(shard, Engine::audit)
    }

    /// Returns the names of all data of a shard, visible or not, sorted: `job:…`, `tenant:…`, `key:…` and `talk:…`.
    #[cfg(feature = "audit")]
    #[must_use]
    pub fn kept(&self, shard: &Shard) -> Vec<String> {
        self.look(shard, |engine, _| engine.kept())
    }

    /// Adds one to the counts of running jobs, of the lane and of each tenant: for `reconcile` to repair.
    #[cfg(feature = "audit")]
    pub fn miscount(&self, shard: &Shard) {
        self.transition(shard, |engine, _| engine.miscount());
    }

    fn look<T>(&self, shard: &Shard, read: impl FnOnce(&Engine, Millis) -> T) -> T {
        read(&lock(&self.peek(shard).engine), self.clock.now())
    }
}
