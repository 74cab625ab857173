//! Outages of the store, logged once at their start and once at their end. A line for each refused request would
//! hide the cause.

use std::sync::{Mutex, PoisonError};

use axum::response::Response;
use tokio::time::{Duration, Instant};

/// The time without a refusal after which an outage is over. A single success proves nothing: a full store can
/// still be read, and a cluster continues with its remaining masters.
const QUIET: Duration = Duration::from_secs(5);

/// The cause of a refusal by the store, attached to the response for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreRefusal(pub(crate) String);

/// The current outage, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<OngoingOutage>>);

#[derive(Debug)]
struct OngoingOutage {
    refused: u64,
    last: Instant,
}

impl Outage {
    /// Logs the start and the end of an outage by the `response` to a client.
    pub(crate) fn watch(&self, response: &Response) {
        if let Some(StoreRefusal(why)) = response.extensions().get() {
            if self.starts() {
                tracing::warn!(cause = why, "the store is not available");
            }
        // A refusal for another reason says nothing about the store.
        } else if response.status().is_success()
            && let Some(refused) = self.ends()
        {
            tracing::info!(refused, "the store is available again");
        }
    }

    /// Counts a refused request; returns true for the first one of an outage.
    fn starts(&self) -> bool {
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = lasting.as_ref().map_or(0, |lasting| lasting.refused) + 1;
        *lasting = Some(OngoingOutage { refused, last: Instant::now() });
        refused == 1
    }

    /// Ends an outage that is over; returns the number of refused requests.
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
    async fn an_outage_ends_after_a_quiet_time() {
        let outage = Outage::default();
        assert_eq!(outage.ends(), None);
        assert!(outage.starts());
        for _ in 0..3 {
            advance(QUIET / 2).await;
            assert_eq!(outage.ends(), None, "half of it still answers");
            assert!(!outage.starts());
        }
        advance(QUIET).await;
        assert_eq!(outage.ends(), Some(4));
        assert_eq!(outage.ends(), None);
        assert!(outage.starts(), "another one");
    }
}
