//! Outages of the store, told once when they begin and once when they are over: a line for every
//! refused request would bury what led there.

use std::sync::{Mutex, PoisonError};

use axum::response::Response;
use tokio::time::{Duration, Instant};

/// How long nothing was refused when an outage is over. A full store can still be read, and a cluster
/// goes on with the masters that are left: a request that succeeds is no sign by itself.
const QUIET: Duration = Duration::from_secs(5);

/// Why the store could not be used, beside the response that says so to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

/// The outage that lasts, if one does.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Lasting>>);

#[derive(Debug)]
struct Lasting {
    refused: u64,
    last: Instant,
}

impl Outage {
    /// Logs the begin and the end of an outage, as an answer to a caller shows them.
    pub(crate) fn watch(&self, response: &Response) {
        if let Some(Refusal(why)) = response.extensions().get() {
            if self.begins() {
                tracing::warn!("the store is not available: {why}");
            }
        } else if response.status().is_success()
            && let Some(refused) = self.ends()
        {
            tracing::info!(refused, "the store is back");
        }
    }

    /// Counts a refused request; answers whether it is the first.
    fn begins(&self) -> bool {
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = lasting.as_ref().map_or(0, |lasting| lasting.refused) + 1;
        *lasting = Some(Lasting { refused, last: Instant::now() });
        refused == 1
    }

    /// Ends the outage, where one has lasted and is over; answers how many requests it has cost.
    fn ends(&self) -> Option<u64> {
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lasting.take_if(|lasting| lasting.last.elapsed() >= QUIET).map(|lasting| lasting.refused)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_once_and_ends_when_nothing_is_refused_any_more() {
        let outage = Outage::default();
        assert_eq!(outage.ends(), None);
        assert!(outage.begins());
        for _ in 0..3 {
            advance(QUIET / 2).await;
            assert_eq!(outage.ends(), None, "half of it still answers");
            assert!(!outage.begins());
        }
        advance(QUIET).await;
        assert_eq!(outage.ends(), Some(4));
        assert_eq!(outage.ends(), None);
        assert!(outage.begins(), "another one");
    }
}
