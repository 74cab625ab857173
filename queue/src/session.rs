//! Sessions: jobs in order, and what their conversation remembers.
//!
//! A job whose [`Spec`](crate::Spec) carries a [`Memory`] is part of a conversation: the claim
//! hands the worker the turns remembered so far, and the settlement that records the answer
//! appends the new turn in the same transition. Since the jobs of one session never overlap, every
//! turn sees all earlier ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock::Millis, id::SessionKey, json::RawJson};

/// How long a conversation is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How many turns are kept; older ones are forgotten.
    pub turns: u32,
    /// How long after its last message the conversation is forgotten, in seconds.
    pub ttl_s: u64,
    /// Who is talking, as JSON: the caller's own, replaced by every message.
    pub profile: RawJson,
}

impl Memory {
    /// How long after its last message the conversation is forgotten.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s)
    }
}

/// One exchange: what was asked and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// What the user said.
    pub user: String,
    /// What the model answered.
    pub assistant: String,
}

/// A change of a conversation's profile, made only if its profile is the one that the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileChange {
    /// The profile that the caller has read; `None`: there is no such conversation.
    pub known: Option<RawJson>,
    /// The new profile.
    pub profile: RawJson,
    /// How long after this change the conversation is forgotten, in whole milliseconds; at least one.
    pub ttl: Duration,
}

/// A remembered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The session it belongs to.
    pub session: SessionKey,
    /// Who is talking, as the last message said.
    pub profile: RawJson,
    /// When it will be forgotten, unless another message comes.
    pub expires_at: Millis,
    /// What was said, oldest first.
    pub turns: Vec<Turn>,
}
