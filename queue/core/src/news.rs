//! The distribution of the store's news: one subscription per process, many listeners.
//!
//! A listener registers first and then reads the store, so it misses nothing between the two. News may be lost if the
//! connection breaks or the listener is slow. The listener then receives [`News::Missed`] and reads the store again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use crate::{event::Event, id::JobId, state::Status};

/// The most unread news of one job before its listener has to read the store again.
const BACKLOG: usize = 16;

/// A change of a job.
#[derive(Debug, Clone)]
pub enum News {
    /// The job has ended.
    Ended(Status),
    /// The job's log has a new event.
    Event(Arc<Event>),
    /// The job was cancelled while an attempt runs.
    Cancel,
    /// News may have been lost: the listener must read the store again.
    Missed,
}

/// The dispatcher of each job's news to its listeners.
#[derive(Debug, Default)]
pub struct Switchboard {
    lines: Mutex<Subscriptions>,
}

/// The listeners, by job.
#[derive(Debug, Default)]
struct Subscriptions {
    /// Listeners for everything.
    followed: HashMap<JobId, broadcast::Sender<News>>,
    /// Listeners for all news but events: a stream has many, and few listeners need them.
    others: HashMap<JobId, broadcast::Sender<News>>,
}

impl Subscriptions {
    fn of(&mut self, interest: Interest) -> &mut HashMap<JobId, broadcast::Sender<News>> {
        match interest {
            Interest::All => &mut self.followed,
            Interest::NoEvents => &mut self.others,
        }
    }
}

/// The news that a listener receives.
#[derive(Debug, Clone, Copy)]
enum Interest {
    All,
    NoEvents,
}

impl Switchboard {
    fn lines(&self) -> MutexGuard<'_, Subscriptions> {
        // A panic in another thread must not disable the listeners.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for the news of `id` from now on, apart from its events.
    #[must_use]
    pub fn listen(self: &Arc<Self>, id: &JobId) -> Listener {
        self.join(id, Interest::NoEvents)
    }

    /// Listens for all news of `id` from now on, with its events.
    #[must_use]
    pub fn follow(self: &Arc<Self>, id: &JobId) -> Listener {
        self.join(id, Interest::All)
    }

    fn join(self: &Arc<Self>, id: &JobId, interest: Interest) -> Listener {
        let mut lines = self.lines();
        let line = lines.of(interest).entry(id.clone());
        let receiver = line.or_insert_with(|| broadcast::channel(BACKLOG).0).subscribe();
        Listener { receiver, id: id.clone(), interest, board: Arc::clone(self) }
    }

    /// Returns true if a listener follows the events of `id`.
    #[must_use]
    pub fn is_followed(&self, id: &JobId) -> bool {
        self.lines().followed.contains_key(id)
    }

    /// Publishes news to the listeners for `id`.
    pub fn tell(&self, id: &JobId, news: News) {
        let lines = self.lines();
        // A send fails only if the last listener was dropped just now.
        if !matches!(news, News::Event(_))
            && let Some(sender) = lines.others.get(id)
        {
            drop(sender.send(news.clone()));
        }
        if let Some(sender) = lines.followed.get(id) {
            drop(sender.send(news));
        }
    }

    /// Publishes to every listener that news may have been lost.
    pub fn tell_all_missed(&self) {
        let lines = self.lines();
        for sender in lines.followed.values().chain(lines.others.values()) {
            drop(sender.send(News::Missed));
        }
    }

    /// Returns the number of jobs with listeners, counted once for each kind of listener.
    #[must_use]
    pub fn len(&self) -> usize {
        let lines = self.lines();
        lines.followed.len() + lines.others.len()
    }

    /// Returns true if there is no listener.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A subscription to the news of one job.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<News>,
    id: JobId,
    interest: Interest,
    board: Arc<Switchboard>,
}

impl Listener {
    /// Waits for the next news. Safe to cancel.
    pub async fn next(&mut self) -> News {
        match self.receiver.recv().await {
            Ok(news) => news,
            Err(RecvError::Lagged(_) | RecvError::Closed) => News::Missed,
        }
    }

    /// Returns the next news, if it has arrived already.
    pub fn at_hand(&mut self) -> Option<News> {
        match self.receiver.try_recv() {
            Ok(news) => Some(news),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => Some(News::Missed),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut lines = self.board.lines();
        let line = lines.of(self.interest);
        // The last listener removes its job: a job without listeners takes no memory.
        if line.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            line.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EventKind,
        id::{LaneName, Shard},
        json::RawJson,
    };

    fn board() -> (Arc<Switchboard>, JobId) {
        let id = JobId::new(Shard { lane: LaneName::default_lane(), index: 0 });
        (Arc::default(), id)
    }

    #[tokio::test]
    async fn a_job_without_listeners_takes_no_room() {
        let (board, id) = board();
        let mut first = board.listen(&id);
        let (second, third) = (board.listen(&id), board.follow(&id));
        board.tell(&id, News::Ended(Status::Failed));
        assert!(matches!(first.next().await, News::Ended(Status::Failed)));
        drop(first);
        assert_eq!(board.len(), 2);
        drop(second);
        assert!(board.is_followed(&id));
        drop(third);
        assert!(board.is_empty());
    }

    #[tokio::test]
    async fn only_followers_receive_events() {
        let (board, id) = board();
        let (mut listener, mut follower) = (board.listen(&id), board.follow(&id));
        let event = Event { seq: 0, kind: EventKind::Queued, data: RawJson::default() };
        board.tell(&id, News::Event(Arc::new(event)));
        board.tell(&id, News::Cancel);
        assert!(matches!(listener.next().await, News::Cancel));
        assert!(matches!(follower.next().await, News::Event(_)));
        assert!(matches!(follower.next().await, News::Cancel));
    }
}
