//! Connections: a few shared ones, and one for each blocking call.
//!
//! The client multiplexes, so a few connections carry any number of concurrent calls. The pool (deadpool) opens
//! connections and bounds their number. A shared connection stays checked out until it breaks, because a checkout
//! costs a round trip.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use deadpool::{
    Runtime,
    managed::{Object, Pool, Timeouts},
};
use redis::{
    aio::{MultiplexedConnection, PubSub},
    cluster::{ClusterClient, ClusterClientBuilder},
};
use tokio::{
    sync::{Mutex, Notify, futures::Notified},
    time::timeout,
};

use super::{
    connector::{ANSWER, CONNECT, Connector, promptly},
    link::Link,
    unavailable::unavailable,
};
use causeway_queue::error::Error;

/// The number of connections that the calls of a process share.
const SHARED: usize = 2;

/// The most connections of one process: the shared ones and one for each shard that a worker waits on.
const MOST: usize = 1024;

/// The origin of connections.
enum Source {
    One { pool: Pool<Connector>, server: Box<Connector> },
    Cluster { client: Box<ClusterClient>, nodes: Vec<Connector>, is_tls: bool },
}

/// A checked-out connection, with its slot in the pool.
pub(super) struct Held {
    pub(super) link: Link,
    /// The server's id of the connection; `None` in a cluster, where a client has many connections, and for servers
    /// that do not report it.
    pub(super) client_id: Option<i64>,
    pub(super) generation: usize,
    place: Option<Object<Connector>>,
}

impl Held {
    /// Closes the connection. Dropping `place` would return it to the pool, which reuses a connection that answers a
    /// PING; a replica answers that too.
    pub(super) fn break_off(self) {
        drop(self.place.map(Object::take));
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// The connections of one process.
pub(super) struct Connections {
    source: Source,
    address: String,
    shared: [Mutex<Option<Held>>; SHARED],
    turn: AtomicUsize,
    generation: AtomicUsize,
    /// The first generation that may still belong to the master.
    current: AtomicUsize,
    replaced: Notify,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A shared connection on loan, with its slot.
pub(super) struct Loan {
    pub(super) link: Link,
    slot: usize,
    pub(super) generation: usize,
}

impl Connections {
    /// Parses `url`: `redis://[user:password@]host[:port][/db]`, or
    /// `redis+cluster://[user:password@]host:port[,host:port…]`, each with `rediss` for TLS; or `unix:///path`. Opens
    /// no connection yet.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let (plain, tls) =
            (url.strip_prefix("redis+cluster://"), url.strip_prefix("rediss+cluster://"));
        let (source, address) = match plain.or(tls) {
            Some(rest) => cluster(rest, tls.is_some())?,
            None => one(url)?,
        };
        Ok(Self {
            source,
            address,
            shared: Default::default(),
            turn: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            replaced: Notify::new(),
        })
    }

    /// Returns the store's address, without secrets.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns one of the shared connections, in turn.
    pub(super) async fn shared(&self) -> Result<Loan, Error> {
        self.shared_in(self.turn.fetch_add(1, Ordering::Relaxed) % SHARED).await
    }

    /// Returns the connection in the slot of a broken one. All other connections may be broken too.
    pub(super) async fn renewed(&self, loan: &Loan) -> Result<Loan, Error> {
        self.shared_in(loan.slot).await
    }

    async fn shared_in(&self, slot: usize) -> Result<Loan, Error> {
        // Held while connecting, so that callers of one slot do not open several connections.
        let mut held = self.shared[slot].lock().await;
        let held = match held.take().and_then(|held| self.if_current(held)) {
            Some(current) => held.insert(current),
            None => held.insert(self.dedicated().await?),
        };
        Ok(Loan { link: held.link.clone(), slot, generation: held.generation })
    }

    /// Closes a shared connection that broke, unless another caller has replaced it.
    pub(super) async fn discard(&self, loan: &Loan) {
        let mut held = self.shared[loan.slot].lock().await;
        if let Some(broken) = held.take_if(|held| held.generation == loan.generation) {
            broken.break_off();
        }
    }

    /// Closes all existing connections, because the server of one of them has become a replica: the same address
    /// belongs to another server now, or soon.
    pub(super) fn retire(&self, generation: usize) {
        if generation < self.current.load(Ordering::Relaxed) {
            // An earlier caller has already replaced this generation.
            return;
        }
        self.current.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        // Idle connections in the pool lead to the replica too.
        if let Source::One { pool, .. } = &self.source {
            drop(pool.retain(|_, _| false));
        }
        self.replaced.notify_waiters();
    }

    /// Returns a future that completes when the existing connections are closed, counted from this call, polled or
    /// not.
    pub(super) fn replaced(&self) -> Notified<'_> {
        self.replaced.notified()
    }

    /// Returns `held`, unless it was closed meanwhile.
    pub(super) fn if_current(&self, held: Held) -> Option<Held> {
        if held.generation < self.current.load(Ordering::Relaxed) {
            held.break_off();
            return None;
        }
        Some(held)
    }

    /// Opens a connection for one user.
    pub(super) async fn dedicated(&self) -> Result<Held, Error> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let (link, client_id, place) = match &self.source {
            Source::One { pool, .. } => {
                let object = Box::pin(pool.get()).await.map_err(unavailable)?;
                let mut link = MultiplexedConnection::clone(&object);
                // Without the id, a blocked wait cannot be ended: see `wake::claim_when_woken`.
                let client_id = redis::cmd("CLIENT").arg("ID").query_async(&mut link).await.ok();
                (Link::One(link), client_id, Some(object))
            }
            Source::Cluster { client, is_tls: false, .. } => {
                let link = client.get_async_connection().await.map_err(unavailable)?;
                (Link::Cluster(link), None, None)
            }
            Source::Cluster { client, is_tls: true, .. } => {
                let link = client.get_async_generic_connection().await.map_err(unavailable)?;
                (Link::TlsCluster(link), None, None)
            }
        };
        Ok(Held { link, client_id, generation, place })
    }

    /// Opens a connection for news. In a cluster any node will do: messages reach all of them.
    pub(super) async fn subscription(&self) -> Result<PubSub, Error> {
        match &self.source {
            Source::One { server, .. } => subscription_at(server).await,
            Source::Cluster { nodes, .. } => {
                let mut last = Error::Unavailable("the cluster has no nodes".to_owned());
                for node in nodes {
                    match subscription_at(node).await {
                        Ok(subscription) => return Ok(subscription),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

async fn subscription_at(node: &Connector) -> Result<PubSub, Error> {
    let connected = timeout(CONNECT, Box::pin(node.subscribe())).await;
    connected.map_err(unavailable)?.map_err(unavailable)
}

fn one(url: &str) -> Result<(Source, String), Error> {
    let server = Connector::new(url).map_err(unusable)?;
    let timeouts = Timeouts { wait: Some(CONNECT), create: Some(CONNECT), recycle: Some(CONNECT) };
    let pool = Pool::builder(server.clone())
        .max_size(MOST)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(unusable)?;
    let address = server.address();
    Ok((Source::One { pool, server: Box::new(server) }, address))
}

fn cluster(rest: &str, is_tls: bool) -> Result<(Source, String), Error> {
    let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
    let at = if login.is_empty() { "" } else { "@" };
    let urls = |scheme: &str| -> Vec<String> {
        hosts.split(',').map(|host| format!("{scheme}://{login}{at}{host}")).collect()
    };
    let nodes = urls(if is_tls { "rediss" } else { "redis" });
    let nodes: Result<Vec<_>, _> =
        nodes.iter().map(|url| Connector::new(url).map_err(unusable)).collect();
    // `TlsNode` adds TLS, so the client gets plain URLs.
    let client = ClusterClientBuilder::new(urls("redis"))
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER)
        .tcp_settings(promptly())
        // A repeated command may have been executed before; see link.rs.
        .retries(0)
        .build()
        .map_err(unusable)?;
    let source = Source::Cluster { client: Box::new(client), nodes: nodes?, is_tls };
    Ok((source, format!("cluster {hosts}")))
}

fn unusable(error: impl fmt::Display) -> Error {
    // The client appends the kind of its error.
    let error = error.to_string();
    let why = error.split("- InvalidClientConfig").next().unwrap_or_default().trim_end();
    Error::Unavailable(format!(
        "cannot use the store's URL: {why}; write redis://host:port/db, or \
         redis+cluster://host:port,host:port, each with rediss for TLS, or unix:///path"
    ))
}
