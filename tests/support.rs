//! The tools of the tests: real servers and processes, each started and ended by its test.

pub(crate) mod certificates;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod sse;
pub(crate) mod system;
pub(crate) mod upstream;
pub(crate) mod ws;

use std::{panic::Location, time::Duration};

/// The time-out of an expected event. Only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The interval at which a test checks a state that sends no notification of changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Returns the output of `future`, or panics with the name of the missing event.
#[track_caller]
pub(crate) fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{place}: waited {} s in vain for {what}", PATIENCE.as_secs()),
        }
    }
}

/// Calls `look` at an interval until it finds something, and returns that.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    look: impl AsyncFn() -> Option<T>,
) -> impl Future<Output = T> {
    soon(what, async move {
        let mut glances = tokio::time::interval(CHECK_INTERVAL);
        loop {
            glances.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
}
