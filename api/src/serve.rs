//! From a listener to answers: the accept loop, the bounds of connections, and the drain.
//!
//! HTTP/1.1 only, by intent: no client of this API needs HTTP/2, and a proxy in front may speak it.

mod answered;
pub(crate) mod connection;
pub(crate) mod reading;
mod service;
mod wire;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{connection::Connections, service::Service, wire::Wire};
use crate::state::AppState;

/// How long connections may take to end after the stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// Longest head of a request, and most of an answer that is buffered, in bytes.
const MAX_BUFFER: usize = 64 << 10;

/// How long to wait for a handle before the next connection is accepted, where the system has none left.
const NO_HANDLE: Duration = Duration::from_millis(20);

/// How long to wait for the end of connections that were evicted, between two looks.
const CROWDED: Duration = Duration::from_millis(1);

/// How long nothing is answered before kept connections are closed in a drain.
const QUIET: Duration = Duration::from_millis(250);

/// How long further failures to accept are not reported.
const SILENCE: Duration = Duration::from_secs(60);

/// The TCP keepalive of callers, with the bounds of upstream connections: a vanished host is detected after
/// 120 s, and its call is cancelled like that of any caller that has gone; a lost probe costs nothing.
fn keepalive() -> TcpKeepalive {
    const IDLE: Duration = Duration::from_secs(30);
    const INTERVAL: Duration = Duration::from_secs(10);
    const RETRIES: u32 = 9;
    TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES)
}

/// Serves the API on `listener` until `drain` completes, and then ends in order:
///
/// 1. `/readyz` answers 503, and answers carry `Connection: close`. For `settings.drain_pause` everything is served.
/// 2. New connections are refused. Where other processes serve the same store, event streams, WebSockets and long
///    polls end, so that their clients go on there. Calls and streams in the formats of the SDKs go on, for
///    `settings.drain` in all. Kept connections are closed when nothing is answered any more.
/// 3. The state's `stopping` is cancelled, here or by its owner: what still waits is answered, and all connections
///    have five seconds to end.
pub async fn serve(listener: TcpListener, state: AppState, drain: impl Future<Output = ()> + Send) {
    let server = Server::new(&state);
    let mut pause = pin!(async {
        drain.await;
        state.draining.cancel();
        let until = Instant::now() + state.settings.drain;
        sleep(state.settings.drain_pause).await;
        until
    });
    let until = loop {
        tokio::select! {
            biased;
            until = &mut pause => break until,
            () = state.stopping.cancelled() => break Instant::now(),
            accepted = listener.accept() => server.take(accepted).await,
        }
    };
    drop(listener);
    state.draining.cancel();
    if state.settings.hands_over {
        state.handover.cancel();
    }
    server.tasks.close();
    let errands = &state.errands;
    errands.close();
    let served = async {
        server.quiet().await;
        server.connections.close();
        server.tasks.wait().await;
        // WebSockets, and what is done for clients that have gone.
        errands.wait().await;
    };
    let mut served = pin!(served);
    tokio::select! {
        () = &mut served => return,
        () = state.stopping.cancelled() => {}
        () = sleep_until(until), if state.settings.hands_over => {}
    }
    state.stopping.cancel();
    if timeout(FAREWELL, served).await.is_err() {
        server.cut.cancel();
    }
}

/// What all connections share.
struct Server {
    service: Service,
    http: http1::Builder,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    /// Cancelled when every connection shall end as it is.
    cut: CancellationToken,
    /// When a lack of handles was last reported.
    warned: Mutex<Option<Instant>>,
}

impl Server {
    fn new(state: &AppState) -> Self {
        let mut http = http1::Builder::new();
        // The deadlines of heads and of idle connections are two: `Connection` has them.
        http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_BUFFER);
        Self {
            service: Service::new(state.clone()),
            http,
            connections: Connections::new(
                state.settings.max_connections,
                Arc::clone(&state.bodies),
            ),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            warned: Mutex::default(),
        }
    }

    /// Completes when nothing has been answered for a while. A kept connection may carry a request that is on its way:
    /// none is closed while the process goes on for others.
    async fn quiet(&self) {
        let mut since = Instant::now();
        while let Some(is_answering) = self.connections.are_answering() {
            if is_answering {
                since = Instant::now();
            } else if since.elapsed() >= QUIET {
                return;
            }
            sleep(QUIET / 10).await;
        }
    }

    /// Serves a connection that was accepted, or deals with why it was not.
    async fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.begin(stream, peer);
                while self.connections.is_crowded() {
                    sleep(CROWDED).await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                self.connections.free_handle();
                self.warn(&error);
                sleep(NO_HANDLE).await;
            }
        }
    }

    /// Reports a lack of handles, once in a while.
    fn warn(&self, error: &io::Error) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= SILENCE) {
            *warned = Some(Instant::now());
            tracing::warn!(%error, "cannot accept connections; unused ones are closed");
        }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr) {
        // Without it small answers would wait for more; where it cannot be set they do.
        drop(stream.set_nodelay(true));
        // Where it cannot be set, a caller that vanished is noticed at the end of its wait.
        drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive()));
        let Some(registered) = self.connections.admit(peer) else {
            wire::refuse(&stream);
            return;
        };
        self.tasks.spawn(carry(
            self.http.clone(),
            self.service.clone(),
            Wire::new(stream, registered),
            self.cut.clone(),
        ));
    }
}

/// True if the error concerns a connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn carry(http: http1::Builder, service: Service, wire: Wire, cut: CancellationToken) {
    let connection = wire.connection();
    let answering = Arc::clone(&connection);
    let answer = service_fn(move |request| service.clone().answer(Arc::clone(&answering), request));
    let mut serving = pin!(http.serve_connection(TokioIo::new(wire), answer).with_upgrades());
    let mut overdue = pin!(sleep_until(connection.next_look()));
    loop {
        let attention = connection.attention();
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = attention => {
                if connection.is_evicted() {
                    return;
                }
                if connection.is_closing() {
                    serving.as_mut().graceful_shutdown();
                }
            }
            () = &mut overdue => {
                if connection.is_overdue() {
                    return;
                }
                overdue.as_mut().reset(connection.next_look());
            }
            () = cut.cancelled() => return,
        }
    }
}
