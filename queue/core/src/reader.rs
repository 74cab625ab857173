//! Readers of one job, which wait for its end or for each of its events. They listen for news, and read the store
//! only if the news call for it, or may have been lost.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

use crate::{
    error::Error,
    event::{Event, EventKind, started},
    id::{JobId, TenantId},
    job::Job,
    json::RawJson,
    news::{Listener, News},
    queue::Queue,
};

/// The interval at which the store is read without news: the cost of a lost message.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// The pause before a failing store is read again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Reads the store with `read`, and repeats this while the store is unavailable, until the time `until`; then it
/// returns the latest error.
///
/// # Errors
/// If the store is still unavailable at `until`; other errors at once.
pub async fn look_until<T, F>(until: Instant, read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        let found = read().await;
        let now = Instant::now();
        if now >= until || !matches!(found, Err(Error::Unavailable(_))) {
            return found;
        }
        sleep_until(until.min(now + LOOK_AGAIN)).await;
    }
}

impl Queue {
    /// Waits until a job of `tenant` has ended, at most `at_most`, and answers with the job as it
    /// is then; `None` when the tenant has no such job. Holds no thread and no connection. An outage of the
    /// store does not end the wait.
    ///
    /// # Errors
    /// If the store does not answer at the end of the wait.
    pub async fn wait(
        &self,
        tenant: &TenantId,
        id: &JobId,
        at_most: Duration,
    ) -> Result<Option<Job>, Error> {
        let waiter = self.waiter(tenant, id);
        let until = Instant::now() + at_most;
        match look_until(until, || self.job(tenant, id)).await? {
            Some(job) if !job.status().is_terminal() && !at_most.is_zero() => {
                waiter.wait(until.saturating_duration_since(Instant::now())).await
            }
            job => Ok(job),
        }
    }

    /// Listens for the end of a job from now on. Made before the job is submitted, it spares the
    /// look at the store with which every [`wait`](Self::wait) begins.
    #[must_use]
    pub fn waiter(&self, tenant: &TenantId, id: &JobId) -> Waiter {
        let listener = self.backend.news().listen(id);
        Waiter { listener, queue: self.clone(), tenant: tenant.clone(), id: id.clone() }
    }

    /// Follows the events of a job that was just read, from number `from` on. A job whose events
    /// are not kept has three, each told when it is known: 0 that it was queued, 1 that its latest
    /// attempt was started, 2 its end.
    #[must_use]
    pub fn follow(&self, job: &Job, from: u64) -> Follower {
        Follower::new(self, job, from)
    }

    /// Follows the events of a job that is about to be submitted, and keeps them.
    #[must_use]
    pub fn follow_new(&self, id: &JobId) -> Follower {
        Follower::of_new(self, id)
    }
}

/// A subscription to the end of one job, started before the job is created.
#[derive(Debug)]
pub struct Waiter {
    listener: Listener,
    queue: Queue,
    tenant: TenantId,
    id: JobId,
}

impl Waiter {
    /// Waits until the job has ended, at most `at_most`, and returns the job; `None` if the tenant has no such job.
    /// Uses no thread and no connection. An outage of the store does not end the wait.
    ///
    /// # Errors
    /// If the store does not answer at the end of the wait.
    pub async fn wait(mut self, at_most: Duration) -> Result<Option<Job>, Error> {
        let until = Instant::now() + at_most;
        loop {
            let poll_at = until.min(Instant::now() + POLL_INTERVAL);
            while let Ok(news) = timeout_at(poll_at, self.listener.next()).await {
                match news {
                    News::Ended(_) | News::Missed => break,
                    News::Event(_) | News::Cancel => {}
                }
            }
            let job = look_until(until, || self.queue.job(&self.tenant, &self.id)).await?;
            // A missing job cannot end any more.
            let ended = job.as_ref().is_none_or(|job| job.status().is_terminal());
            if ended || Instant::now() >= until {
                return Ok(job);
            }
        }
    }
}

/// A reader of one job's events: first the kept ones, then new ones.
#[derive(Debug)]
pub struct Follower {
    listener: Listener,
    queue: Queue,
    id: JobId,
    keeps_events: bool,
    next: u64,
    buffered: Vec<Event>,
    must_read: bool,
    ended: bool,
    /// The timer of the next poll. It is reset only when it has fired: a reset for each event costs more than the
    /// event.
    poll_timer: Pin<Box<Sleep>>,
    received_at: Instant,
}

impl Follower {
    fn new(queue: &Queue, job: &Job, from: u64) -> Self {
        Self {
            listener: queue.news().follow(&job.id),
            queue: queue.clone(),
            id: job.id.clone(),
            keeps_events: job.keeps_events,
            next: from,
            buffered: Vec::new(),
            must_read: true,
            ended: false,
            poll_timer: Box::pin(sleep(POLL_INTERVAL)),
            received_at: Instant::now(),
        }
    }

    /// Returns a follower of a job that does not exist yet, so it will receive all events.
    fn of_new(queue: &Queue, id: &JobId) -> Self {
        Self {
            listener: queue.news().follow(id),
            queue: queue.clone(),
            id: id.clone(),
            keeps_events: true,
            next: 0,
            buffered: Vec::new(),
            // Nothing to read: the job does not exist yet.
            must_read: false,
            ended: false,
            poll_timer: Box::pin(sleep(POLL_INTERVAL)),
            received_at: Instant::now(),
        }
    }

    /// Returns the next event; `None` after the last one, or if the job is gone. Safe to cancel.
    ///
    /// # Errors
    /// If the store is unavailable; the reader may call again.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.at_hand() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            if self.must_read {
                self.buffered = self.read_store().await?;
                // `at_hand` pops from the back.
                self.buffered.reverse();
                self.must_read = false;
                continue;
            }
            let news = tokio::select! {
                biased;
                news = self.listener.next() => news,
                () = &mut self.poll_timer => {
                    // The timer is not reset by news, so it may fire early: poll only if no news arrived for the
                    // whole interval.
                    self.must_read = self.received_at.elapsed() >= POLL_INTERVAL;
                    let from = if self.must_read { Instant::now() } else { self.received_at };
                    self.poll_timer.as_mut().reset(from + POLL_INTERVAL);
                    continue;
                }
            };
            self.receive(&news);
        }
    }

    /// Returns the next event, if it was read or received already.
    pub fn at_hand(&mut self) -> Option<Event> {
        while self.buffered.is_empty() && !self.must_read && !self.ended {
            let news = self.listener.at_hand()?;
            self.receive(&news);
        }
        let event = self.buffered.pop()?;
        self.next = event.seq + 1;
        self.ended = event.kind.is_last();
        Some(event)
    }

    fn receive(&mut self, news: &News) {
        self.received_at = Instant::now();
        match news {
            News::Event(event) if event.seq == self.next => self.buffered.push(Event::clone(event)),
            // A gap in the numbers: news was lost. A smaller number is a repetition.
            News::Event(event) => self.must_read = event.seq > self.next,
            News::Cancel => {}
            News::Ended(_) | News::Missed => self.must_read = true,
        }
    }

    /// Returns all known events from the next one on, without waiting for more.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn known(&mut self) -> Result<Vec<Event>, Error> {
        self.buffered.clear();
        self.read_store().await
    }

    /// Reads the store from the next event on. Sets `ended` if no event can follow.
    async fn read_store(&mut self) -> Result<Vec<Event>, Error> {
        let job =
            self.queue.jobs(std::slice::from_ref(&self.id)).await?.into_iter().flatten().next();
        let Some(job) = job else {
            self.ended = true;
            return Ok(Vec::new());
        };
        if self.keeps_events {
            let events = self.queue.backend.events(&self.id, self.next).await?;
            self.ended = events.is_empty() && job.status().is_terminal();
            return Ok(events);
        }
        // Without a kept log, the events that the job's state implies are returned.
        // The attempt of a job that waits again because its lane failed was given back.
        let start = job.started_at.filter(|_| job.attempts > 0);
        let start = start.map(|_| (EventKind::Started, started(job.attempts)));
        let end = EventKind::of_end(job.status()).map(|kind| (kind, RawJson::default()));
        let events: Vec<Event> = [Some((EventKind::Queued, RawJson::default())), start, end]
            .into_iter()
            .zip(0..)
            .filter(|(_, seq)| *seq >= self.next)
            .filter_map(|(event, seq)| event.map(|(kind, data)| Event { seq, kind, data }))
            .collect();
        self.ended = events.is_empty() && job.status().is_terminal();
        Ok(events)
    }
}
