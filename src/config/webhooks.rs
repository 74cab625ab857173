//! `[webhooks]`: how events are signed and delivered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{list, span};

/// How events are signed and delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Webhooks {
    /// The environment variables that hold the secrets with which events of every tenant are signed
    /// that has none of its own, the newest first; each signs. Default: none, no job may have a
    /// webhook.
    #[serde(deserialize_with = "list::deserialize")]
    pub(crate) secret_env: Vec<String>,
    /// Receivers that are no public addresses: networks, addresses, names of hosts. Default: none.
    #[serde(deserialize_with = "list::deserialize")]
    pub(crate) allow: Vec<String>,
    /// How many deliveries one worker process makes at once, 1 to 10,000. Default 256.
    pub(crate) concurrency: usize,
    /// Most deliveries of one tenant that run at once, over all workers, 1 to 10,000; at most half of
    /// `concurrency`. Default 64.
    pub(crate) tenant_concurrency: u32,
    /// How long one attempt at a delivery may take. Default 15 s.
    #[serde(with = "span")]
    pub(crate) timeout: Duration,
    /// How long after the first attempt comes the second; the later delays are multiples of it. At
    /// most, and by default, 5 s: the last attempt is within a day then.
    #[serde(with = "span")]
    pub(crate) retry_base: Duration,
}

impl Webhooks {
    /// Returns how many deliveries of one tenant run at once. One worker always has permits left for others.
    pub(crate) fn tenant_deliveries(&self) -> u32 {
        let half = u32::try_from(self.concurrency.div_ceil(2)).unwrap_or(u32::MAX);
        self.tenant_concurrency.min(half)
    }
}

impl Default for Webhooks {
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
