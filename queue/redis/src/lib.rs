//! The engine on Redis (7.0 or newer, Valkey 7.2 or newer). Every transition is one script, the server's TIME is the
//! only clock, and the scripts compute the same numbers as `causeway-embedded`.
//!
//! Only this crate uses Redis.

mod administration;
mod bodies;
mod connector;
mod enqueue;
mod gates;
mod gather;
mod info;
mod keys;
mod link;
mod losses;
mod measure;
mod news;
mod orphans;
mod outbox;
mod pool;
mod record;
mod reply;
mod scripts;
mod server;
mod step;
mod store;
mod throttle;
mod tls;
mod tls_node;
mod unavailable;
mod views;
mod wake;
mod workers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

#[cfg(feature = "audit")]
use causeway_queue::audit::Audit;
use tokio::{sync::Semaphore, task::JoinSet};

pub use self::info::ServerStats;
use self::{
    gather::Gather,
    pool::{Connections, Held},
    scripts::Scripts,
    server::{GATHERED, Server, lock},
};
use causeway_queue::{
    clock::Clock,
    error::Error,
    id::{JobId, Shard},
    job::{Accepted, Job, NewJob},
    limits::{Rate, Throttle},
    news::Switchboard,
    policy::Policy,
};

/// The Redis store.
#[derive(Debug)]
pub struct RedisStore {
    server: Arc<Server>,
    board: Arc<Switchboard>,
    gathers: Mutex<HashMap<Shard, Gathers>>,
    /// Permits for large groups, which bypass the batchers.
    bulk_permits: Semaphore,
    /// The connections on which workers wait, one a shard; removed while a worker waits on it.
    waiting: Mutex<HashMap<Shard, Held>>,
    tasks: Mutex<JoinSet<()>>,
}

/// The batchers of one shard.
#[derive(Debug, Clone)]
struct Gathers {
    enqueue: Gather<Vec<NewJob>, Result<Vec<Accepted>, Error>>,
    get: Gather<JobId, Option<Job>>,
    throttle: Gather<(String, Rate), Throttle>,
}

impl RedisStore {
    /// Connects to the store at `url`: `redis://[user:password@]host[:port][/db]`, or
    /// `redis+cluster://[user:password@]host:port[,host:port…]`, each with `rediss` for TLS; or `unix:///path`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the URL is not one of these, no server answers within two seconds, its certificate
    /// is not trusted, or its user lacks the right to channels.
    pub async fn connect(url: &str, policy: Policy) -> Result<Self, Error> {
        Self::open(url, &policy, None).await
    }

    /// Connects like [`connect`](Self::connect), with `clock` instead of the server's TIME: for tests that advance
    /// the time. Keys still expire by the server's clock.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with_clock(
        url: &str,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::open(url, &policy, Some(clock)).await
    }

    async fn open(
        url: &str,
        policy: &Policy,
        clock: Option<Arc<dyn Clock>>,
    ) -> Result<Self, Error> {
        let connections = Arc::new(Connections::new(url)?);
        // Fail at the start if the store cannot be reached.
        connections.shared().await?;
        let scripts = Scripts::new(policy);
        let seen = Mutex::default();
        // The longest life of a job, from acceptance to deletion.
        let attached_for = policy.give_up_after.saturating_add(policy.retention);
        let shared = Arc::clone(&connections);
        let server = Server { connections: shared, scripts, attached_for, clock, seen };
        news::check(&server).await?;
        losses::warn_of_losses(&server).await;
        let board = Arc::new(Switchboard::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(news::listen(connections, Arc::clone(&board)));
        Ok(Self {
            server: Arc::new(server),
            board,
            gathers: Mutex::default(),
            bulk_permits: Semaphore::new(enqueue::BULK_PERMITS),
            waiting: Mutex::default(),
            tasks: Mutex::new(tasks),
        })
    }

    /// Checks the invariants of a shard in which these jobs were accepted. Reads all of it.
    ///
    /// # Errors
    /// If the store does not answer.
    #[cfg(feature = "audit")]
    pub async fn audit(&self, shard: &Shard, jobs: &[JobId]) -> Result<Audit, Error> {
        let ids = jobs.iter().map(JobId::key);
        let answer = self.server.call(shard, &self.server.scripts.audit, ids).await?;
        let mut reply = reply::Reply::new(answer)?;
        let mut faults: Vec<String> =
            (0..reply.len()).map(|_| reply.text()).collect::<Result<_, _>>()?;
        let vtime = faults.pop().unwrap_or_default();
        let vtime = vtime.strip_prefix("vtime ").and_then(|number| number.parse().ok());
        Ok(Audit { faults, vtime: vtime.unwrap_or(f64::NAN) })
    }

    /// Returns the batchers of a shard, if a job of it was accepted or found here. Clients may name shards that never
    /// existed; nothing is kept for these.
    fn known_gathers(&self, shard: &Shard) -> Option<Gathers> {
        lock(&self.gathers).get(shard).cloned()
    }

    fn gathers(&self, shard: &Shard) -> Gathers {
        let mut all = lock(&self.gathers);
        if let Some(gathers) = all.get(shard) {
            return gathers.clone();
        }
        let (enqueue, accepting) = Gather::new(GATHERED, enqueue::enqueuer(&self.server, shard));
        let (get, reading) = Gather::new(GATHERED, views::reader(&self.server, shard));
        let (throttle, taking) = Gather::new(GATHERED, throttle::throttler(&self.server, shard));
        let mut tasks = lock(&self.tasks);
        tasks.spawn(accepting);
        tasks.spawn(reading);
        tasks.spawn(taking);
        let gathers = Gathers { enqueue, get, throttle };
        all.insert(shard.clone(), gathers.clone());
        gathers
    }
}
