//! A whole Causeway on either store.

use super::{
    http::Client,
    process::{Causeway, Settings},
    redis::RedisServer,
    upstream::Upstream,
};

/// The store of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// One process.
    Embedded,
    /// Two API processes and a worker over a Redis.
    Redis,
}

/// The processes of a Causeway.
pub(crate) struct System {
    /// Two clients of the same queue: of one process, or of one API process each.
    pub(crate) clients: [Client; 2],
    _processes: Vec<Causeway>,
    _redis: Option<RedisServer>,
}

impl System {
    /// Starts a Causeway that calls `upstream`.
    pub(crate) async fn start(store: Store, upstream: &Upstream, settings: Settings<'_>) -> Self {
        match store {
            Store::Embedded => {
                let up = Causeway::up(&upstream.url(), settings).await;
                let client = up.client().await;
                let clients = [client.clone(), client];
                Self { clients, _processes: vec![up], _redis: None }
            }
            Store::Redis => {
                let redis = RedisServer::start();
                let one = Causeway::api(&redis.url(), settings).await;
                let other = Causeway::api(&redis.url(), settings).await;
                let worker = Causeway::worker(&redis.url(), &upstream.url(), settings).await;
                let clients = [one.client().await, other.client().await];
                Self { clients, _processes: vec![one, other, worker], _redis: Some(redis) }
            }
        }
    }

    /// Returns the first client.
    pub(crate) fn client(&self) -> &Client {
        &self.clients[0]
    }
}

/// Runs each test (an async function of a [`Store`]) on both stores.
#[macro_export]
macro_rules! on_both_stores {
    ($($test:ident;)*) => {
        mod embedded {
            use $crate::support::system::Store;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(Store::Embedded).await; })*
        }
        mod redis {
            use $crate::support::system::Store;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(Store::Redis).await; })*
        }
    };
}
