//! Opens connections to one server: over TCP, TLS or a Unix socket.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSub},
    io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::{
    pool::{ANSWER, CONNECT},
    tls,
};

/// Every command is sent at once: small as they are, they would wait for one another (RFC 896).
pub(super) fn promptly() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// How long to wait for a connection over TLS: less than the pool waits, which cannot say what was amiss.
const OPEN: Duration = Duration::from_millis(1800);

/// One server, and how to reach it.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    info: ConnectionInfo,
    client: Client,
    is_tls: bool,
}

impl Connector {
    /// Reads `url`, whose scheme is `redis` or `unix`, or `rediss` for TLS.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        let plain = url.strip_prefix("rediss://").map(|rest| format!("redis://{rest}"));
        let info = plain.as_deref().unwrap_or(url).into_connection_info()?;
        let info = info.set_tcp_settings(promptly());
        let client = Client::open(info.clone())?;
        Ok(Self { info, client, is_tls: plain.is_some() })
    }

    /// Returns where the server is, without secrets.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Opens a connection for commands.
    pub(super) async fn open(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        if self.is_tls {
            return open_tls(&self.info, config).await;
        }
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Opens a connection for messages.
    pub(super) async fn subscribe(&self) -> RedisResult<PubSub> {
        if !self.is_tls {
            return self.client.get_async_pubsub().await;
        }
        let stream = tls::connect(self.info.addr()).await?;
        PubSub::new(self.info.redis_settings(), stream).await
    }
}

/// Opens a connection for commands over TLS, within [`OPEN`].
pub(super) async fn open_tls(
    info: &ConnectionInfo,
    config: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    let opening = async {
        let stream = tls::connect(info.addr()).await?;
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await
    };
    let (connection, driver) = timeout(OPEN, opening).await.map_err(|_| silent(info.addr()))??;
    #[expect(clippy::disallowed_methods, reason = "it ends with the last clone of the connection")]
    tokio::spawn(driver);
    Ok(connection)
}

/// The error of a server that says nothing, as one without TLS does, which waits for a line.
fn silent(address: &ConnectionAddr) -> RedisError {
    let after = OPEN.as_secs_f64();
    let message =
        format!("{address} completed no TLS handshake within {after} s; redis:// is without TLS");
    std::io::Error::other(message).into()
}

impl Manager for Connector {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<MultiplexedConnection> {
        self.open().await
    }

    async fn recycle(
        &self,
        connection: &mut MultiplexedConnection,
        _: &Metrics,
    ) -> RecycleResult<RedisError> {
        let answer: String = redis::cmd("PING").query_async(connection).await?;
        if answer == "PONG" { Ok(()) } else { Err(RecycleError::message("no answer to a PING")) }
    }
}
