//! The server: the accept loop, the limits of connections, and the drain.
//!
//! HTTP/1.1 only, by intent: no client of this API needs HTTP/2, and a reverse proxy can offer it.

pub(crate) mod connection;
pub(crate) mod reading;
mod service;
mod tracked_body;
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

use self::{connection::ConnectionRegistry, service::Service, wire::Wire};
use crate::state::AppState;

/// The time that connections get to end after the stop.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of a request, and most buffered bytes of an answer.
const MAX_BUFFER: usize = 64 << 10;

/// The pause of the accept loop when the system has no file handle left.
const NO_HANDLE_PAUSE: Duration = Duration::from_millis(20);

/// The interval of checks for the end of evicted connections.
const EVICTION_POLL: Duration = Duration::from_millis(1);

/// The time without any answer after which a drain closes idle connections.
const QUIET: Duration = Duration::from_millis(250);

/// The time during which further failures to accept are not logged.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Returns the TCP keepalive of clients, with the limits of upstream connections. A vanished host is detected after
/// 120 s, and its call is cancelled like that of any client that left. A single lost probe has no effect.
fn keepalive() -> TcpKeepalive {
    const IDLE: Duration = Duration::from_secs(30);
    const INTERVAL: Duration = Duration::from_secs(10);
    const RETRIES: u32 = 9;
    TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES)
}

/// Serves the API on `listener` until `drain` completes, and then stops in this order:
///
/// 1. `/readyz` answers 503, and answers carry `Connection: close`. For `settings.drain_pause` all requests are
///    served.
/// 2. New connections are refused. If other processes serve the same store, event streams, WebSockets and long
///    polls end, so their clients continue there. SDK calls and their streams continue, for `settings.drain` in
///    total. Idle connections are closed once no request is being answered.
/// 3. The state's `stopping` is cancelled, here or by its owner: all waiting requests are answered, and all
///    connections have five seconds to end.
pub async fn serve(listener: TcpListener, state: AppState, drain: impl Future<Output = ()> + Send) {
    let server = HttpServer::new(&state);
    let mut pause = pin!(async {
        drain.await;
        state.draining.cancel();
        // `drain` counts from the signal, so the pause is part of it.
        let until = Instant::now() + state.settings.drain;
        sleep(state.settings.drain_pause).await;
        until
    });
    let until = loop {
        tokio::select! {
            biased;
            until = &mut pause => break until,
            () = state.stopping.cancelled() => break Instant::now(),
            accepted = listener.accept() => server.handle_accepted(accepted).await,
        }
    };
    // Closing the socket lets the system refuse new connections, so clients try another process.
    drop(listener);
    state.draining.cancel();
    if state.settings.hands_over {
        state.handover.cancel();
    }
    server.tasks.close();
    let background_tasks = &state.background_tasks;
    background_tasks.close();
    let served = async {
        server.wait_for_quiet().await;
        server.connections.close();
        server.tasks.wait().await;
        // Waits for WebSockets, and for tasks on behalf of clients that left.
        background_tasks.wait().await;
    };
    let mut served = pin!(served);
    tokio::select! {
        () = &mut served => return,
        () = state.stopping.cancelled() => {}
        // With an embedded store, the owner of `stopping` decides: its worker must end first.
        () = sleep_until(until), if state.settings.hands_over => {}
    }
    state.stopping.cancel();
    if timeout(CLOSE_TIMEOUT, served).await.is_err() {
        server.cut.cancel();
    }
}

/// The shared state of all connections.
struct HttpServer {
    service: Service,
    http: http1::Builder,
    connections: Arc<ConnectionRegistry>,
    tasks: TaskTracker,
    /// Cancelled when all connections must end immediately.
    cut: CancellationToken,
    /// The time of the latest log line about missing file handles.
    warned: Mutex<Option<Instant>>,
}

impl HttpServer {
    fn new(state: &AppState) -> Self {
        let mut http = http1::Builder::new();
        // `Connection` measures the time-outs of heads and of idle connections, which hyper would combine into one.
        http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_BUFFER);
        Self {
            service: Service::new(state.clone()),
            http,
            connections: ConnectionRegistry::new(
                state.settings.max_connections,
                Arc::clone(&state.bodies),
            ),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            warned: Mutex::default(),
        }
    }

    /// Completes when no request has been answered for [`QUIET`]. A request may be on its way over an idle
    /// connection, so none is closed while other requests are still answered.
    async fn wait_for_quiet(&self) {
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

    /// Serves an accepted connection, or handles the error of accepting it.
    async fn handle_accepted(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.serve_connection(stream, peer);
                while self.connections.is_crowded() {
                    // Connections whose slow bodies were refused linger in their places.
                    self.connections.evict_one();
                    sleep(EVICTION_POLL).await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // The limit of open files is reached. Closing an idle connection frees a handle.
                self.connections.free_handle();
                self.warn(&error);
                sleep(NO_HANDLE_PAUSE).await;
            }
        }
    }

    /// Logs missing file handles, at most once in [`WARN_INTERVAL`].
    fn warn(&self, error: &io::Error) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            *warned = Some(Instant::now());
            tracing::warn!(%error, "cannot accept connections; unused ones are closed");
        }
    }

    fn serve_connection(&self, stream: TcpStream, peer: SocketAddr) {
        // Nagle's algorithm would delay small answers. A failure costs only latency.
        drop(stream.set_nodelay(true));
        // After a failure, a vanished client is noticed only at the end of its wait.
        drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive()));
        let Some(registered) = self.connections.admit(peer) else {
            wire::refuse(&stream);
            return;
        };
        self.tasks.spawn(serve_to_end(
            self.http.clone(),
            self.service.clone(),
            Wire::new(stream, registered),
            self.cut.clone(),
        ));
    }
}

/// True if the error concerns a single connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn serve_to_end(http: http1::Builder, service: Service, wire: Wire, cut: CancellationToken) {
    let connection = wire.connection();
    let answering = Arc::clone(&connection);
    let answer = service_fn(move |request| service.clone().answer(Arc::clone(&answering), request));
    let mut serving = pin!(http.serve_connection(TokioIo::new(wire), answer).with_upgrades());
    let mut overdue = pin!(sleep_until(connection.next_check()));
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
                    // Ends an idle connection at once, any other after its answer.
                    serving.as_mut().graceful_shutdown();
                }
            }
            () = &mut overdue => {
                if connection.is_overdue() {
                    return;
                }
                overdue.as_mut().reset(connection.next_check());
            }
            () = cut.cancelled() => return,
        }
    }
}
