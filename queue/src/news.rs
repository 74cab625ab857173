//! From the store to whoever waits: one subscription per process, many listeners.
//!
//! A listener registers first and reads the store then, so nothing falls between. News may be
//! lost (the connection broke, the listener was slow); a listener that is told so reads again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

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
    lines: Mutex<Lines>,
}

/// Who listens, by job.
#[derive(Debug, Default)]
struct Lines {
    /// For everything.
    followed: HashMap<JobId, broadcast::Sender<News>>,
    /// For all but the events: a stream has many, and few listeners need them.
    others: HashMap<JobId, broadcast::Sender<News>>,
}

impl Lines {
    fn of(&mut self, wish: Wish) -> &mut HashMap<JobId, broadcast::Sender<News>> {
        match wish {
            Wish::Everything => &mut self.followed,
            Wish::NoEvents => &mut self.others,
        }
    }
}

/// What a listener wants to hear.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Everything,
    NoEvents,
}

impl Switchboard {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for the news of `id` from now on, apart from its events.
    #[must_use]
    pub fn listen(self: &Arc<Self>, id: &JobId) -> Listener {
        self.join(id, Wish::NoEvents)
    }

    /// Listens for all news of `id` from now on, with its events.
    #[must_use]
    pub fn follow(self: &Arc<Self>, id: &JobId) -> Listener {
        self.join(id, Wish::Everything)
    }

    fn join(self: &Arc<Self>, id: &JobId, wish: Wish) -> Listener {
        let mut lines = self.lines();
        let line = lines.of(wish).entry(id.clone());
        let receiver = line.or_insert_with(|| broadcast::channel(BACKLOG).0).subscribe();
        Listener { receiver, id: id.clone(), wish, board: Arc::clone(self) }
    }

    /// Whether somebody listens for the events of `id`.
    #[must_use]
    pub fn is_followed(&self, id: &JobId) -> bool {
        self.lines().followed.contains_key(id)
    }

    /// Tells those who listen for `id`.
    pub fn tell(&self, id: &JobId, news: News) {
        let lines = self.lines();
        // A send fails only when the last listener has just gone.
        if !matches!(news, News::Event(_))
            && let Some(sender) = lines.others.get(id)
        {
            drop(sender.send(news.clone()));
        }
        if let Some(sender) = lines.followed.get(id) {
            drop(sender.send(news));
        }
    }

    /// Tells everybody that something may have been missed.
    pub fn tell_all_missed(&self) {
        let lines = self.lines();
        for sender in lines.followed.values().chain(lines.others.values()) {
            drop(sender.send(News::Missed));
        }
    }

    /// On how many lines somebody listens.
    #[must_use]
    pub fn len(&self) -> usize {
        let lines = self.lines();
        lines.followed.len() + lines.others.len()
    }

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Somebody who listens for the news of one job.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<News>,
    id: JobId,
    wish: Wish,
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

    /// The next news, if it has come already.
    pub(crate) fn at_hand(&mut self) -> Option<News> {
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
        let line = lines.of(self.wish);
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
    async fn events_are_told_to_followers_only() {
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
