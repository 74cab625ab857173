//! Work on bodies, which for long ones is done off the runtime's threads.

use tokio::task::spawn_blocking;

use crate::upstream::Failure;

/// Bytes of a body above which work on it is long: reading 1 MiB of JSON takes milliseconds.
const LONG: usize = 1 << 20;

/// Does `work` on a body of `bytes`.
///
/// # Errors
/// When the work ended without a result.
pub(crate) async fn on_body<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= LONG {
        return Ok(work());
    }
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::Cut(format!("the work on the answer ended: {error}")))
}
