//! The engine on Redis (7.0 or newer, Valkey 7.2 or newer). Every transition is one script, the server's TIME is the
//! only clock, and the scripts compute the same numbers as `causeway-embedded`.
//!
//! Only this crate uses Redis.

mod bodies;
mod connector;
mod enqueue;
mod gates;
mod gather;
mod info;
mod keys;
mod link;
mod news;
mod orphans;
mod outbox;
mod pool;
mod record;
mod reply;
mod scripts;
mod step;
mod store;
mod throttle;
mod tls;
mod views;
mod wake;
mod workers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[cfg(feature = "audit")]
use causeway_queue::audit::Audit;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use tokio::{sync::Semaphore, task::JoinSet};

pub use self::info::ServerStats;
use self::{
    gather::Gather,
    pool::{ANSWER, Connections, Held, Loan},
    scripts::Scripts,
};
use causeway_queue::{
    clock::{Clock, Millis, SystemClock},
    error::Error,
    id::{JobId, Shard},
    job::{Accepted, Job, NewJob},
    limits::{Rate, Throttle},
    news::Switchboard,
    policy::Policy,
};

/// The most groups of jobs that one call accepts, jobs that it reads, and buckets that it takes from. It bounds the
/// time for which one script blocks the server.
const GATHERED: usize = 256;

/// The most leases that one call extends, and the most settlements and emissions in one call.
const MOST_LEASES: usize = 1000;

/// The arguments of a call.
type Args = Vec<Vec<u8>>;

/// The Redis store.
#[derive(Debug)]
pub struct RedisStore {
    server: Arc<Server>,
    board: Arc<Switchboard>,
    gathers: Mutex<HashMap<Shard, Gathers>>,
    /// Permits for large groups, which bypass the batchers.
    alone: Semaphore,
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

/// The connections and the scripts that calls need.
#[derive(Debug)]
struct Server {
    connections: Arc<Connections>,
    scripts: Scripts,
    /// The time for which attached bytes of a job are kept.
    attached_for: Duration,
    /// Set by tests only; otherwise the server's TIME is the clock.
    clock: Option<Arc<dyn Clock>>,
    /// Estimates of the servers' clocks, from the last step in each shard.
    seen: Mutex<HashMap<Shard, SystemClock>>,
}

impl Server {
    /// Returns the command that calls a script for `shard`.
    fn command(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Cmd {
        self.command_at(&keys::prefix(shard), script, args)
    }

    /// Returns the command that calls a script for the keys with this prefix.
    fn command_at(
        &self,
        prefix: &str,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(script).arg(1).arg(prefix);
        // An empty argument: the script reads the server's TIME.
        command.arg(self.clock.as_ref().map_or(String::new(), |clock| clock.now().0.to_string()));
        for arg in args {
            command.arg(arg.as_ref());
        }
        command
    }

    /// Calls a script for `shard`. If the server does not have the scripts, it loads them first.
    async fn call(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Value, Error> {
        self.call_with(&self.command(shard, script, args)).await
    }

    /// Sends the command of a script, as [`call`](Self::call) does.
    async fn call_with(&self, command: &Cmd) -> Result<Value, Error> {
        match self.ask(command).await {
            // A restarted server, or a new master, may have lost the functions.
            Err(error) if is_unknown(&error) => {
                self.load().await?;
                self.ask(command).await
            }
            answer => answer,
        }
    }

    /// Calls a script that changes nothing, as [`call`](Self::call) does; see [`read`](Self::read).
    async fn view(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Value, Error> {
        self.view_with(&self.command(shard, script, args)).await
    }

    /// Sends the command of a script that changes nothing, as [`view`](Self::view) does.
    async fn view_with(&self, command: &Cmd) -> Result<Value, Error> {
        match self.read(command).await {
            Err(error) if is_unknown(&error) => {
                self.load().await?;
                self.read(command).await
            }
            answer => answer,
        }
    }

    /// Records that it is `now` in a shard, and returns a clock that continues from there.
    fn sees(&self, shard: &Shard, now: Millis) -> SystemClock {
        let clock = SystemClock::set(now);
        lock(&self.seen).insert(shard.clone(), clock);
        clock
    }

    /// Returns the time, by the shard's clock, at which a caller with this `patience` stops waiting; `None` if the
    /// clock is unknown.
    fn waits_until(&self, shard: &Shard, patience: Duration) -> Option<Millis> {
        let seen = lock(&self.seen).get(shard).copied().filter(|_| self.clock.is_none());
        seen.map(|clock| clock.now().after(patience))
    }

    /// Loads the scripts; in a cluster, into every master.
    async fn load(&self) -> Result<(), Error> {
        let mut command = redis::cmd("FUNCTION");
        command.arg("LOAD").arg(&self.scripts.library);
        match self.ask::<Value>(&command).await {
            // Another process loaded the same library first.
            Err(Error::Unavailable(why)) if why.contains("already exists") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Sends one command once: a command without a reply may have been executed.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut loan = self.connections.shared().await?;
        self.ask_over(&mut loan, command).await.map_err(unavailable)
    }

    /// Sends a command that changes nothing. If the connection was broken, as after a restart of the server, sends it
    /// once more over a new one.
    async fn read<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut loan = self.connections.shared().await?;
        match self.ask_over(&mut loan, command).await {
            Err(error) if has_died(&error) => {
                let mut loan = self.connections.renewed(&loan).await?;
                self.ask_over(&mut loan, command).await.map_err(unavailable)
            }
            answer => answer.map_err(unavailable),
        }
    }

    /// Sends one command over a connection, and closes the connection if it became useless.
    async fn ask_over<T: FromRedisValue>(
        &self,
        loan: &mut Loan,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let answer = command.query_async(&mut loan.link).await;
        if let Err(error) = &answer {
            if is_replaced(error) {
                self.connections.retire(loan.generation);
            } else if breaks(error) {
                self.connections.discard(loan).await;
            }
        }
        answer
    }
}

/// Returns true if the server does not have the scripts.
fn is_unknown(error: &Error) -> bool {
    // The client has no error kind for this.
    matches!(error, Error::Unavailable(why) if why.contains("Function not found"))
}

/// Returns true if a new connection may succeed at once. After a time-out it would not: the server is slow.
fn has_died(error: &RedisError) -> bool {
    breaks(error) && !error.is_timeout()
}

/// Returns true if the connection is useless after `error`.
fn breaks(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || is_replaced(error)
}

/// Returns true if the server reports that it is a replica. After a failover, connections to the former master may
/// stay open, while new ones to the same address reach the new master.
fn is_replaced(error: &RedisError) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// The rights that the user of the store needs.
const RIGHTS: &str = "~cw:* &cw:* +@all -@admin -@dangerous";

/// Returns true if the server reports that the user lacks a right.
fn is_denied(why: &str) -> bool {
    why.contains("NoPerm") || why.contains("NOPERM") || why.contains("can't publish to the channel")
}

/// Returns the message of an error without the additions of the pool and the operating system.
fn in_plain_words(why: &str) -> String {
    let why = why.strip_prefix("Error occurred while creating a new object: ").unwrap_or(why);
    let why = why.split(" (os error").next().unwrap_or_default();
    if why == "Connection refused" {
        return "the connection is refused: start a Redis there, or correct the address".to_owned();
    }
    why.to_owned()
}

/// Returns the error of a store that cannot do its work, with advice where the cause is known.
fn unavailable(error: impl std::fmt::Display) -> Error {
    let why = in_plain_words(&error.to_string());
    let is_full = why.contains("used memory > 'maxmemory'");
    Error::Unavailable(if is_denied(&why) {
        format!(
            "its user lacks a right: grant `{RIGHTS}` (ACL SETUSER; a new user has no channels, which is \
             `resetchannels`): {why}"
        )
    } else if is_full {
        format!(
            "its memory is full, so it accepts no new work, nor processes of another version, retention, \
             max_stalls or max_dead: raise maxmemory, or wait until ended jobs expire: {why}"
        )
    } else {
        why
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread must not disable the store.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        info::warn_of_losses(&server).await;
        let board = Arc::new(Switchboard::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(news::listen(connections, Arc::clone(&board)));
        Ok(Self {
            server: Arc::new(server),
            board,
            gathers: Mutex::default(),
            alone: Semaphore::new(enqueue::ALONE_AT_ONCE),
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
