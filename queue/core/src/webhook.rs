//! Webhooks: the receiver of a job's end, and the outbox of ends to publish (the pattern is *transactional outbox*).
//!
//! The transition that ends a job with a webhook also writes an entry into the shard's outbox, so no end is lost,
//! whichever transition caused it. The outbox relay creates a delivery for each entry in the lane
//! [`webhooks`](LaneName::webhooks) and then acknowledges the entry. So an entry is relayed at least once; the second
//! time, its [`name`](End::name) is recognised as the idempotency key. This module sends nothing.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    id::{JobId, LaneName, Shard},
    state::Status,
};

/// The most entries on one page of an outbox.
pub const MAX_OUTBOX_PAGE: usize = 256;

/// The receiver of a job's webhook event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The `http` or `https` URL of the receiver.
    #[serde(rename = "u")]
    pub url: String,
    /// The object that the event describes.
    #[serde(rename = "o", default, skip_serializing_if = "Subject::is_job")]
    pub subject: Subject,
}

/// The object that the webhook event describes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// The job.
    #[default]
    #[serde(rename = "j")]
    Job,
    /// The response with this id, which the job computes: its client uses OpenAI's `/v1/responses`.
    #[serde(rename = "r")]
    Response(String),
}

impl Subject {
    fn is_job(&self) -> bool {
        matches!(self, Self::Job)
    }
}

/// An outbox entry: one end of a job with a webhook. A retried job ends again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The job.
    pub job: JobId,
    /// The terminal status.
    pub status: Status,
    /// The time of the end.
    pub at: Millis,
    /// The generation: the order number that the shard gave the job at acceptance or at its latest retry.
    pub life: u64,
}

impl End {
    /// Returns a name that no other end has, in any shard: 26 characters, `_` and a number.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_{}", self.job.key(), self.life)
    }
}

/// Returns the shard of all deliveries.
#[must_use]
pub fn shard_of_deliveries() -> Shard {
    Shard { lane: LaneName::webhooks(), index: 0 }
}

/// Returns true if `lane` is the lane of deliveries, which clients cannot use.
#[must_use]
pub fn is_of_deliveries(lane: &LaneName) -> bool {
    *lane == LaneName::webhooks()
}
