//! What a job's owner wants to be told at its end, and the ends that wait to be told.
//!
//! The transition that ends a job with a webhook puts the end into the shard's outbox, so that no end
//! is lost, whoever brought it about. Whoever hands ends on makes a delivery of each in the lane
//! [`webhooks`](LaneName::webhooks) and then takes them out: an end is handed on at least once, and by
//! its [`name`](End::name) recognised the second time. Nothing here sends anything.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    id::{JobId, LaneName, Shard},
    state::Status,
};

/// Most ends on one page of an outbox.
pub const MAX_OUTBOX_PAGE: usize = 256;

/// Where the end of a job is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The `http` or `https` URL of the receiver.
    #[serde(rename = "u")]
    pub url: String,
    /// As what the job is spoken of.
    #[serde(rename = "o", default, skip_serializing_if = "Subject::is_job")]
    pub subject: Subject,
}

/// As what a job is spoken of in the event that tells its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// As the job that it is.
    #[default]
    #[serde(rename = "j")]
    Job,
    /// As the response of this id that it makes: its owner speaks OpenAI's `/v1/responses`.
    #[serde(rename = "r")]
    Response(String),
}

impl Subject {
    fn is_job(&self) -> bool {
        matches!(self, Self::Job)
    }
}

/// One end of a job with a webhook: a job that is put back ends again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub status: Status,
    /// When.
    pub at: Millis,
    /// In which life: the number under which the shard accepted the job, or put it back.
    pub life: u64,
}

impl End {
    /// A name that no other end has, in any shard: 26 characters, `_` and a number.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_{}", self.job.key(), self.life)
    }
}

/// Returns the shard that holds all deliveries.
#[must_use]
pub fn shard_of_deliveries() -> Shard {
    Shard { lane: LaneName::webhooks(), index: 0 }
}

/// Whether `lane` is where deliveries wait for their turn, which no client may use.
#[must_use]
pub fn is_of_deliveries(lane: &LaneName) -> bool {
    *lane == LaneName::webhooks()
}
