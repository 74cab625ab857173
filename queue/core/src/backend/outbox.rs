//! The outbox.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{error::Error, id::Shard, webhook::End};

/// The outbox of a shard: the webhook events that are not yet handed to their deliveries.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// Returns the outbox entries that are due, at most `most` (1 to
    /// [`MAX_OUTBOX_PAGE`](crate::webhook::MAX_OUTBOX_PAGE)), by time. If there are more, half of the page are the
    /// oldest and half the newest, so that a new entry does not wait behind a backlog. Unreadable entries are left
    /// out.
    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error>;

    /// Acknowledges outbox entries after their deliveries were accepted. An entry that is missing was acknowledged by
    /// another caller.
    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error>;

    /// Delays outbox entries by `delay`. An entry that was acknowledged is not restored.
    async fn postpone(&self, shard: &Shard, ends: &[End], delay: Duration) -> Result<(), Error>;
}
