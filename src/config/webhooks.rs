//! `[webhooks]`: signing and delivery of webhook events.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{comma_list, duration};

/// `[webhooks]`: signing and delivery of webhook events. All processes need the same settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebhooksSection {
    /// The environment variables that hold the signing secrets, the newest first; each of them
    /// signs. A tenant with secrets of its own does not use them. Default: none, only jobs of such
    /// tenants may have a webhook. `CAUSEWAY_WEBHOOKS_SECRET_ENV`.
    #[serde(deserialize_with = "comma_list::deserialize")]
    pub(crate) secret_env: Vec<String>,
    /// Permitted receivers without a public address: networks, addresses and host names. Default:
    /// none. `CAUSEWAY_WEBHOOKS_ALLOW`.
    #[serde(deserialize_with = "comma_list::deserialize")]
    pub(crate) allow: Vec<String>,
    /// The number of deliveries that one worker process makes at once, in addition to its calls, 1
    /// to 10,000. Default: 256. `CAUSEWAY_WEBHOOKS_CONCURRENCY`.
    pub(crate) concurrency: usize,
    /// The most deliveries of one tenant that run at once in all workers, 1 to 10,000; more than
    /// half of `concurrency` counts as half. Default: 64. `CAUSEWAY_WEBHOOKS_TENANT_CONCURRENCY`.
    pub(crate) tenant_concurrency: u32,
    /// The time-out of one delivery attempt, 1 ms to 60 s. Default: 15 s.
    /// `CAUSEWAY_WEBHOOKS_TIMEOUT`.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
    /// The delay between the first and the second attempt, of which the later delays are multiples,
    /// 1 ms to 5 s. Default: 5 s, with which the last attempt is made within a day.
    /// `CAUSEWAY_WEBHOOKS_RETRY_BASE`.
    #[serde(with = "duration")]
    pub(crate) retry_base: Duration,
}

impl WebhooksSection {
    /// Returns the number of deliveries of one tenant that run at once: at most half of a worker's
    /// permits, so that the others stay available to other tenants.
    pub(crate) fn tenant_deliveries(&self) -> u32 {
        let half = u32::try_from(self.concurrency.div_ceil(2)).unwrap_or(u32::MAX);
        self.tenant_concurrency.min(half)
    }
}

impl Default for WebhooksSection {
    fn default() -> Self {
        Self {
            secret_env: Vec::new(),
            allow: Vec::new(),
            concurrency: 256,
            tenant_concurrency: 64,
            timeout: Duration::from_secs(15),
            retry_base: causeway_worker::MAX_RETRY_BASE,
        }
    }
}
