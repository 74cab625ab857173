//! From a listener to answers.

use std::{io, time::Duration};

use axum::serve::ListenerExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpListener, time::timeout};

use crate::{router::router, state::AppState};

/// How long connections may take to end after the stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// The TCP keepalive of callers, with the bounds of upstream connections: a vanished host is detected after
/// 120 s, and its call is cancelled like that of any caller that has gone; a lost probe costs nothing.
fn keepalive() -> TcpKeepalive {
    const IDLE: Duration = Duration::from_secs(30);
    const INTERVAL: Duration = Duration::from_secs(10);
    const RETRIES: u32 = 9;
    TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES)
}

/// Serves the API on `listener`. When `drain` ends it takes no more connections and, over the
/// WebSockets that are open, no more jobs; whoever waits for an answer goes on waiting until the
/// state's `stopping` is cancelled, and then all connections have five seconds to end.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    drain: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without it small answers would wait for more; where it cannot be set they do.
        drop(connection.set_nodelay(true));
        // Where it cannot be set, a caller that vanished is noticed at the end of its wait.
        drop(SockRef::from(&*connection).set_tcp_keepalive(&keepalive()));
    });
    let (stopping, errands) = (state.stopping(), state.errands.clone());
    let draining = state.draining.clone();
    let drain = async move {
        drain.await;
        draining.cancel();
    };
    // A plain router would be copied, all its routes, for each connection: 14 KB.
    let routes = router(state).into_make_service();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(drain);
    let serving = std::future::IntoFuture::into_future(serving);
    tokio::pin!(serving);
    let served = tokio::select! {
        ended = &mut serving => ended,
        () = stopping.cancelled() => timeout(FAREWELL, serving).await.unwrap_or(Ok(())),
    };
    errands.close();
    if served.is_ok() {
        // WebSockets are errands, and may last until nothing is answered any more.
        tokio::select! {
            () = errands.wait() => {}
            () = stopping.cancelled() => {}
        }
    }
    drop(timeout(FAREWELL, errands.wait()).await);
    served
}
