//! From a listener to answers.

use std::{io, time::Duration};

use axum::{Router, serve::ListenerExt as _};
use tokio::{net::TcpListener, time::timeout};

/// How long connections may take to end after the stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `stop` ends, and then until its connections have ended, but
/// no longer than five seconds.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without it small answers would wait for more; where it cannot be set they do.
        drop(connection.set_nodelay(true));
    });
    let (told, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        drop(told);
    });
    let serving = std::future::IntoFuture::into_future(serving);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        _ = stopped => {}
    }
    timeout(FAREWELL, serving).await.unwrap_or(Ok(()))
}
