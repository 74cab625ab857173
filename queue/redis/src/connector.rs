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

use super::tls;

/// Returns settings that send every command at once (`TCP_NODELAY`). Otherwise small commands would wait for earlier
/// ones (Nagle's algorithm, RFC 896).
pub(super) fn promptly() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The time limit for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// The time limit for a reply, blocking calls included; the connection is closed after it.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// The time limit for opening a connection over TLS. It is less than the pool's limit, because the pool's error does
/// not name the cause.
const TLS_OPEN_TIMEOUT: Duration = Duration::from_millis(1800);

/// One server, with the parameters to connect.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    info: ConnectionInfo,
    client: Client,
    is_tls: bool,
}

impl Connector {
    /// Parses `url`. Its scheme is `redis` or `unix`, or `rediss` for TLS.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        let plain = url.strip_prefix("rediss://").map(|rest| format!("redis://{rest}"));
        // The client's own TLS is not compiled in; `tls` opens the stream, so the client gets a plain URL.
        let info = plain.as_deref().unwrap_or(url).into_connection_info()?;
        let info = info.set_tcp_settings(promptly());
        let client = Client::open(info.clone())?;
        Ok(Self { info, client, is_tls: plain.is_some() })
    }

    /// Returns the server's address, without secrets.
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

/// Opens a connection for commands over TLS, within [`TLS_OPEN_TIMEOUT`].
pub(super) async fn open_tls(
    info: &ConnectionInfo,
    config: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    let opening = async {
        let stream = tls::connect(info.addr()).await?;
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await
    };
    let opened = timeout(TLS_OPEN_TIMEOUT, opening).await;
    let (connection, driver) = opened.map_err(|_| handshake_timed_out(info.addr()))??;
    #[expect(clippy::disallowed_methods, reason = "it ends with the last clone of the connection")]
    tokio::spawn(driver);
    Ok(connection)
}

/// Returns the error of a server that stays silent, as one without TLS does: it waits for a line.
fn handshake_timed_out(address: &ConnectionAddr) -> RedisError {
    let after = TLS_OPEN_TIMEOUT.as_secs_f64();
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
