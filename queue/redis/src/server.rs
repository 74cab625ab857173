//! Calls of the scripts: over which connection, and what follows an error.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_queue::{
    clock::{Clock, Millis, SystemClock},
    error::Error,
    id::Shard,
};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

use super::{
    keys,
    pool::{Connections, Loan},
    scripts::Scripts,
    unavailable::unavailable,
};

/// The most groups of jobs that one call accepts, jobs that it reads, and buckets that it takes from. It bounds the
/// time for which one script blocks the server.
pub(super) const GATHERED: usize = 256;

/// The most leases that one call extends, and the most settlements and emissions in one call.
pub(super) const MOST_LEASES: usize = 1000;

/// The arguments of a call.
pub(super) type Args = Vec<Vec<u8>>;

/// The connections and the scripts that calls need.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) connections: Arc<Connections>,
    pub(super) scripts: Scripts,
    /// The time for which attached bytes of a job are kept.
    pub(super) attached_for: Duration,
    /// Set by tests only; otherwise the server's TIME is the clock.
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// Estimates of the servers' clocks, from the last step in each shard.
    pub(super) seen: Mutex<HashMap<Shard, SystemClock>>,
}

impl Server {
    /// Returns the command that calls a script for `shard`.
    pub(super) fn command(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Cmd {
        self.command_at(&keys::prefix(shard), script, args)
    }

    /// Returns the command that calls a script for the keys with this prefix.
    pub(super) fn command_at(
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
    pub(super) async fn call(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Value, Error> {
        self.call_with(&self.command(shard, script, args)).await
    }

    /// Sends the command of a script, as [`call`](Self::call) does.
    pub(super) async fn call_with(&self, command: &Cmd) -> Result<Value, Error> {
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
    pub(super) async fn view(
        &self,
        shard: &Shard,
        script: &str,
        args: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Value, Error> {
        self.view_with(&self.command(shard, script, args)).await
    }

    /// Sends the command of a script that changes nothing, as [`view`](Self::view) does.
    pub(super) async fn view_with(&self, command: &Cmd) -> Result<Value, Error> {
        match self.read(command).await {
            Err(error) if is_unknown(&error) => {
                self.load().await?;
                self.read(command).await
            }
            answer => answer,
        }
    }

    /// Records that it is `now` in a shard, and returns a clock that continues from there.
    pub(super) fn sees(&self, shard: &Shard, now: Millis) -> SystemClock {
        let clock = SystemClock::set(now);
        lock(&self.seen).insert(shard.clone(), clock);
        clock
    }

    /// Returns the time, by the shard's clock, at which a caller with this `patience` stops waiting; `None` if the
    /// clock is unknown.
    pub(super) fn waits_until(&self, shard: &Shard, patience: Duration) -> Option<Millis> {
        let seen = lock(&self.seen).get(shard).copied().filter(|_| self.clock.is_none());
        seen.map(|clock| clock.now().after(patience))
    }

    /// Loads the scripts; in a cluster, into every master.
    async fn load(&self) -> Result<(), Error> {
        let mut command = redis::cmd("FUNCTION");
        // Another process may have loaded the library already; then it is replaced by the same text.
        command.arg("LOAD").arg("REPLACE").arg(&self.scripts.library);
        self.ask::<Value>(&command).await.map(drop)
    }

    /// Sends one command once: a command without a reply may have been executed.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut loan = self.connections.shared().await?;
        self.ask_over(&mut loan, command).await.map_err(unavailable)
    }

    /// Sends a command that changes nothing. If the connection was broken, as after a restart of the server, sends it
    /// once more over a new one.
    pub(super) async fn read<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
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
pub(super) fn breaks(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || is_replaced(error)
}

/// Returns true if the server reports that it is a replica. After a failover, connections to the former master may
/// stay open, while new ones to the same address reach the new master.
pub(super) fn is_replaced(error: &RedisError) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread must not disable the store.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
