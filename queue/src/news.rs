//! From the store to whoever waits: one subscription per process, many listeners.
//!
//! A listener registers first and reads the store then, so nothing falls between. News may be
//! lost (the connection broke, the listener was slow); a listener that is told so reads again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::{event::Event, id::JobId, state::Status};

/// How many news of one job a listener may be behind before it has to read the store again.
const BACKLOG: usize = 16;

/// What is told of a job.
#[derive(Debug, Clone)]
pub enum News {
    /// It has ended.
    Ended(Status),
    /// One more event of its log.
    Event(Arc<Event>),
    /// Its owner asked for the end of the running attempt.
    Cancel,
    /// Something may have been missed: read the store again.
    Missed,
}

/// Hands the news of each job to those who listen for it.
#[derive(Debug, Default)]
pub struct Switchboard {
    lines: Mutex<HashMap<JobId, broadcast::Sender<News>>>,
}

impl Switchboard {
    fn lines(&self) -> MutexGuard<'_, HashMap<JobId, broadcast::Sender<News>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for the news of `id` from now on.
    #[must_use]
    pub fn listen(self: &Arc<Self>, id: &JobId) -> Listener {
        let mut lines = self.lines();
        let sender = lines.entry(id.clone()).or_insert_with(|| broadcast::channel(BACKLOG).0);
        Listener { receiver: sender.subscribe(), id: id.clone(), board: Arc::clone(self) }
    }

    /// Whether somebody listens for `id`.
    #[must_use]
    pub fn has_listener(&self, id: &JobId) -> bool {
        self.lines().contains_key(id)
    }

    /// Tells those who listen for `id`.
    pub fn tell(&self, id: &JobId, news: News) {
        if let Some(sender) = self.lines().get(id) {
            // A send fails only when the last listener has just gone.
            drop(sender.send(news));
        }
    }

    /// Tells everybody that something may have been missed.
    pub fn tell_all_missed(&self) {
        for sender in self.lines().values() {
            drop(sender.send(News::Missed));
        }
    }

    /// How many jobs are listened for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }
}

/// Somebody who listens for the news of one job.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<News>,
    id: JobId,
    board: Arc<Switchboard>,
}

impl Listener {
    /// The next news. Safe to cancel.
    pub async fn next(&mut self) -> News {
        match self.receiver.recv().await {
            Ok(news) => news,
            Err(RecvError::Lagged(_) | RecvError::Closed) => News::Missed,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut lines = self.board.lines();
        if lines.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            lines.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LaneName, Shard};

    #[tokio::test]
    async fn a_job_without_listeners_takes_no_room() {
        let board = Arc::new(Switchboard::default());
        let id = JobId::new(Shard { lane: LaneName::default_lane(), index: 0 });
        let mut first = board.listen(&id);
        let second = board.listen(&id);
        board.tell(&id, News::Ended(Status::Failed));
        assert!(matches!(first.next().await, News::Ended(Status::Failed)));
        drop(first);
        assert!(board.has_listener(&id));
        drop(second);
        assert!(board.is_empty());
    }
}
