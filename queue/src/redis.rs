//! The engine on Redis (7.0 or newer, Valkey 7.2 or newer): every transition is one script, the
//! server's TIME is the only clock, and what [`embedded`](crate::embedded) does is what the scripts
//! do, number for number.
//!
//! This module knows Redis; no other does.

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

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use tokio::{sync::Semaphore, task::JoinSet};

pub use self::info::ServerStats;
use self::{
    gather::Gather,
    pool::{ANSWER, Connections, Held, Loan},
    scripts::Scripts,
};
use crate::{
    clock::{Clock, Millis, SystemClock},
    error::Error,
    id::{JobId, Shard},
    job::{Accepted, Job, NewJob},
    limits::{Rate, Throttle},
    news::Switchboard,
    policy::Policy,
};

/// Most groups of jobs that one call accepts, most jobs that it reads, most buckets that it takes from.
const GATHERED: usize = 256;

/// Most leases that one call extends, and most settlements and emissions that one call takes.
const MOST_LEASES: usize = 1000;

/// The arguments of a call.
type Args = Vec<Vec<u8>>;

/// The Redis store.
#[derive(Debug)]
pub struct RedisStore {
    server: Arc<Server>,
    board: Arc<Switchboard>,
    gathers: Mutex<HashMap<Shard, Gathers>>,
    /// The turns of large groups, which do not gather.
    alone: Semaphore,
    /// The connections on which workers wait, one a shard; taken out while somebody waits.
    waiting: Mutex<HashMap<Shard, Held>>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the calls of one shard gather in.
#[derive(Debug, Clone)]
struct Gathers {
    enqueue: Gather<Vec<NewJob>, Result<Vec<Accepted>, Error>>,
    get: Gather<JobId, Option<Job>>,
    throttle: Gather<(String, Rate), Throttle>,
}

/// The server and the scripts: what calls need.
#[derive(Debug)]
struct Server {
    connections: Arc<Connections>,
    scripts: Scripts,
    /// How long bytes that are attached to a job are kept.
    attached_for: Duration,
    /// Set by tests only; otherwise the server's TIME is the clock.
    clock: Option<Arc<dyn Clock>>,
    /// Clocks that go as those of the servers, by the last step in each shard.
    seen: Mutex<HashMap<Shard, SystemClock>>,
}

impl Server {
    /// The command that calls one of the scripts for `shard`.
    fn command(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Cmd {
        self.command_at(&keys::prefix(shard), script, args)
    }

    /// The command that calls one of the scripts for the keys with this prefix.
    fn command_at(
        &self,
        prefix: &str,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(script).arg(1).arg(prefix);
        command.arg(self.clock.as_ref().map_or(String::new(), |clock| clock.now().0.to_string()));
        for arg in args {
            command.arg(arg.as_ref());
        }
        command
    }

    /// Calls one of the scripts for `shard`; a server that does not know them is told them.
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

    /// That it was `now` in a shard; answers a clock that goes on from there.
    fn sees(&self, shard: &Shard, now: Millis) -> SystemClock {
        let clock = SystemClock::set(now);
        lock(&self.seen).insert(shard.clone(), clock);
        clock
    }

    /// The time in a shard when somebody who waits so long for an answer gives up, as far as it is known.
    fn waits_until(&self, shard: &Shard, patience: Duration) -> Option<Millis> {
        let seen = lock(&self.seen).get(shard).copied().filter(|_| self.clock.is_none());
        seen.map(|clock| clock.now().after(patience))
    }

    /// Loads the scripts; in a cluster, into every master.
    async fn load(&self) -> Result<(), Error> {
        let mut command = redis::cmd("FUNCTION");
        command.arg("LOAD").arg(&self.scripts.library);
        match self.ask::<Value>(&command).await {
            // Somebody else was faster.
            Err(Error::Unavailable(why)) if why.contains("already exists") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Sends one command, once: what got no answer may have been executed.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut loan = self.connections.shared().await?;
        self.ask_over(&mut loan, command).await.map_err(unavailable)
    }

    /// Sends a command that changes nothing. Where the connection had died, as it does when the server is
    /// restarted, sends it once more over a new one.
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

    /// Sends one command over a connection, which is given up where it is of no use any more.
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

/// True if the server does not know the scripts.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Unavailable(why) if why.contains("Function not found"))
}

/// True if a new connection may do better at once. One whose answer is late has had all the time there is.
fn has_died(error: &RedisError) -> bool {
    breaks(error) && !error.is_timeout()
}

/// Whether the connection is of no use after `error`.
fn breaks(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || is_replaced(error)
}

/// Whether the server says that it is a replica. After a failover connections to the former master may
/// stay open, and new ones to the same address lead to the new master.
fn is_replaced(error: &RedisError) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// The rights that a user needs.
const RIGHTS: &str = "~cw:* &cw:* +@all -@admin -@dangerous";

/// True if the server says that a user may not do something.
fn is_denied(why: &str) -> bool {
    why.contains("NoPerm") || why.contains("NOPERM") || why.contains("can't publish to the channel")
}

/// Removes what the pool and the operating system add to an error.
fn in_plain_words(why: &str) -> String {
    let why = why.strip_prefix("Error occurred while creating a new object: ").unwrap_or(why);
    let why = why.split(" (os error").next().unwrap_or_default();
    if why == "Connection refused" {
        return "the connection is refused: start a Redis there, or correct the address".to_owned();
    }
    why.to_owned()
}

/// The store cannot do its work.
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
            "it is full and takes no new work, nor processes of another version, retention, \
             max_stalls or max_dead: raise maxmemory, or wait until ended jobs are forgotten: {why}"
        )
    } else {
        why
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisStore {
    /// Connects to the store at `url`: `redis://[user:password@]host[:port][/db]`, or
    /// `redis+cluster://[user:password@]host:port[,host:port…]`, each with `rediss` for TLS; or `unix:///path`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the URL is not one of these, nothing answers there within two seconds, its
    /// certificate is not trusted, or its user lacks the right to channels.
    pub async fn connect(url: &str, policy: Policy) -> Result<Self, Error> {
        Self::open(url, &policy, None).await
    }

    /// As [`connect`](Self::connect), with `clock` instead of the server's TIME: for tests that move
    /// the time. Expiry of keys still goes by the server's.
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
        connections.shared().await?;
        let scripts = Scripts::new(policy);
        let seen = Mutex::default();
        // As long as the job may last, its end included.
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

    /// What `lua/audit.lua` found.
    #[cfg(feature = "conformance")]
    pub(crate) async fn inspect(
        &self,
        shard: &Shard,
        jobs: &[JobId],
    ) -> Result<Vec<String>, Error> {
        let ids = jobs.iter().map(JobId::key);
        let answer = self.server.call(shard, &self.server.scripts.audit, ids).await?;
        let mut reply = reply::Reply::new(answer)?;
        (0..reply.len()).map(|_| reply.text()).collect()
    }

    /// Where calls for a shard gather, if a job of it was accepted or found here. Clients name shards that never were:
    /// nothing is kept for these.
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
