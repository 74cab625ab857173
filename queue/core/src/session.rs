//! Sessions: jobs in order, and their conversation.
//!
//! A job with a [`Memory`] in its [`Spec`](crate::Spec) is part of a conversation. The claim gives the worker the
//! turns remembered so far, and the settlement appends the new turn in the same transition as the answer. The jobs of
//! one session never overlap, so every turn sees all earlier ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock::Millis, id::SessionKey, json::RawJson};

/// The settings of a job's conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The number of turns that are kept; older ones are deleted.
    pub turns: u32,
    /// The time after its last message at which the conversation is deleted, in seconds.
    pub ttl_s: u64,
    /// The profile of the user, as JSON of the caller; every message replaces it.
    pub profile: RawJson,
}

impl Memory {
    /// Returns the time after its last message at which the conversation is deleted.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s)
    }
}

/// One exchange of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The message of the user.
    pub user: String,
    /// The answer of the model.
    pub assistant: String,
}

/// A change of a conversation's profile, which is made only if the caller knows the current profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileChange {
    /// The profile that the caller has read; `None` if there was no such conversation.
    pub known: Option<RawJson>,
    /// The new profile.
    pub profile: RawJson,
    /// The time after this change at which the conversation is deleted, in whole milliseconds; at least one.
    pub ttl: Duration,
}

/// A remembered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The session of the conversation.
    pub session: SessionKey,
    /// The profile of the user, from the last message or change.
    pub profile: RawJson,
    /// The time at which the conversation is deleted, unless another message arrives.
    pub expires_at: Millis,
    /// The remembered turns, oldest first.
    pub turns: Vec<Turn>,
}
