//! What the tests stand on: real servers and processes, started and ended by the test that needs
//! them.

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

/// How long a test waits for something that should come at once. Only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits before it looks again at what tells nobody that it has changed.
const GLANCE: Duration = Duration::from_millis(20);

/// What `future` gives, or a panic that says what did not come.
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

/// What `look` finds, which is asked again and again until it finds something.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    look: impl AsyncFn() -> Option<T>,
) -> impl Future<Output = T> {
    soon(what, async move {
        let mut glances = tokio::time::interval(GLANCE);
        loop {
            glances.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
}
