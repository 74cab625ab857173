//! Connections: a few that everybody shares, and one for each blocking call.
//!
//! The client multiplexes, so a handful of connections carries any number of concurrent calls. The
//! pool (deadpool) opens them and bounds how many there are; a shared connection stays
//! checked out until it breaks, because checking one out costs a round trip.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
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
    connector::{Connector, promptly},
    link::Link,
    unavailable,
};
use crate::error::Error;

/// How many connections the calls of a process share.
const SHARED: usize = 2;

/// Most connections of one process: the shared ones and one for each shard that a worker waits on.
const MOST: usize = 1024;

/// How long to wait for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// How long to wait for an answer, blocking calls included, before the connection is given up.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Where connections come from.
enum Source {
    One { pool: Pool<Connector>, server: Box<Connector> },
    Cluster { client: Box<ClusterClient>, nodes: Vec<Connector>, is_tls: bool },
}

/// A connection that somebody holds, with its place in the pool.
pub(super) struct Held {
    pub(super) link: Link,
    /// How its server calls it; `None` in a cluster, where a client has many connections, and
    /// where a server does not tell.
    pub(super) client_id: Option<i64>,
    pub(super) generation: usize,
    place: Option<Object<Connector>>,
}

impl Held {
    /// Gives it up for good. A place that is dropped goes back to the pool with its connection, which is
    /// used again if a PING is answered; that a replica does too.
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
    /// The first generation that may still lead to the master.
    current: AtomicUsize,
    replaced: Notify,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A shared connection on loan, and where it came from.
pub(super) struct Loan {
    pub(super) link: Link,
    slot: usize,
    pub(super) generation: usize,
}

impl Connections {
    /// Reads `url`: `redis://[user:password@]host[:port][/db]`, or
    /// `redis+cluster://[user:password@]host:port[,host:port…]`, each with `rediss` for TLS; or `unix:///path`.
    /// Connects to nothing yet.
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

    /// Where the store is, without secrets.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// One of the shared connections.
    pub(super) async fn shared(&self) -> Result<Loan, Error> {
        self.shared_in(self.turn.fetch_add(1, Ordering::Relaxed) % SHARED).await
    }

    /// The connection in place of one that was given up. All others may have died with it.
    pub(super) async fn renewed(&self, loan: &Loan) -> Result<Loan, Error> {
        self.shared_in(loan.slot).await
    }

    async fn shared_in(&self, slot: usize) -> Result<Loan, Error> {
        let mut held = self.shared[slot].lock().await;
        let held = match held.take().and_then(|held| self.if_current(held)) {
            Some(current) => held.insert(current),
            None => held.insert(self.dedicated().await?),
        };
        Ok(Loan { link: held.link.clone(), slot, generation: held.generation })
    }

    /// Gives a shared connection up that broke.
    pub(super) async fn discard(&self, loan: &Loan) {
        let mut held = self.shared[loan.slot].lock().await;
        if let Some(broken) = held.take_if(|held| held.generation == loan.generation) {
            broken.break_off();
        }
    }

    /// Gives up all connections that are there, as the server of one that was made then has become a
    /// replica: at the same address there is another now, or soon.
    pub(super) fn retire(&self, generation: usize) {
        if generation < self.current.load(Ordering::Relaxed) {
            return;
        }
        self.current.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Source::One { pool, .. } = &self.source {
            drop(pool.retain(|_, _| false));
        }
        self.replaced.notify_waiters();
    }

    /// Ends when the connections that are there are given up: from the call on, polled or not.
    pub(super) fn replaced(&self) -> Notified<'_> {
        self.replaced.notified()
    }

    /// `held`, unless it has been given up meanwhile.
    pub(super) fn if_current(&self, held: Held) -> Option<Held> {
        if held.generation < self.current.load(Ordering::Relaxed) {
            held.break_off();
            return None;
        }
        Some(held)
    }

    /// A connection of one's own.
    pub(super) async fn dedicated(&self) -> Result<Held, Error> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let (link, client_id, place) = match &self.source {
            Source::One { pool, .. } => {
                let object = Box::pin(pool.get()).await.map_err(unavailable)?;
                let mut link = MultiplexedConnection::clone(&object);
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

    /// A connection for news. In a cluster any node serves: messages reach all of them.
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
    // TLS is made by `TlsNode`, of which the client knows nothing.
    let client = ClusterClientBuilder::new(urls("redis"))
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER)
        .tcp_settings(promptly())
        // What it would repeat may have been executed; see link.rs.
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
        "the store's URL cannot be used: {why}; it would be redis://host:port/db, or \
         redis+cluster://host:port,host:port, each with rediss for TLS, or unix:///path"
    ))
}
