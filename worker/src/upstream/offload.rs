//! Work on bodies: long ones are processed outside the runtime's threads.

use tokio::task::spawn_blocking;

use crate::failure::Failure;

/// Size of a body in bytes above which it is processed in a blocking task: parsing 1 MiB of JSON takes milliseconds.
const MAX_INLINE_BYTES: usize = 1 << 20;

/// Runs `work` on a body of `bytes`, in a blocking task if the body is long.
///
/// # Errors
/// If the task ended without a result.
pub(crate) async fn on_body<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= MAX_INLINE_BYTES {
        return Ok(work());
    }
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::Cut(format!("processing the answer failed: {error}")))
}
