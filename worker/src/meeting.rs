//! A test backend whose calls block on a barrier until all shards were called, so that sequential code deadlocks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{
    Backend, Error, IdempotencyKey, JobId, Lane, LaneName, LeaseKey, NewJob, Queue, SessionKey,
    Settlement, Shard, TenantId,
    backend::{Emission, ListQuery, Page, Reaped, Repairs, Stats},
    directory::Directory,
    event::Event,
    id::Layout,
    job::{Accepted, Job},
    lease::{Beat, ClaimRequest, Step},
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    orphan::CallKey,
    session::{Conversation, ProfileChange},
    webhook::End,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};
use tokio::sync::Barrier;

/// The backend; each call waits at `barrier`.
#[derive(Debug)]
pub(crate) struct Meeting {
    pub(crate) place: Barrier,
    news: Arc<Switchboard>,
}

impl Meeting {
    /// Returns a queue of three shards. The barrier opens for their three calls plus `others`.
    pub(crate) fn with(others: usize) -> (Arc<Self>, Queue) {
        let meeting = Arc::new(Self { place: Barrier::new(3 + others), news: Arc::default() });
        let lane = Lane { shards: 3, ..Lane::named(LaneName::default_lane()) };
        let queue = Queue::new(Arc::clone(&meeting) as Arc<dyn Backend>, vec![lane]);
        (meeting, queue)
    }

    async fn meet<T: Default>(&self) -> Result<T, Error> {
        self.place.wait().await;
        Ok(T::default())
    }
}

fn unasked<T>() -> T {
    panic!("the barrier backend has no such call")
}

#[async_trait]
impl Backend for Meeting {
    async fn beat(&self, _: &Shard, _: &[LeaseKey], _: Duration) -> Result<Beat, Error> {
        self.meet().await
    }

    async fn reap(&self, _: &Shard) -> Result<Reaped, Error> {
        self.meet().await
    }

    async fn reconcile(&self, _: &Shard) -> Result<Repairs, Error> {
        self.meet().await
    }

    async fn outbox(&self, _: &Shard, _: usize) -> Result<Vec<End>, Error> {
        self.meet().await
    }

    fn news(&self) -> &Arc<Switchboard> {
        &self.news
    }

    fn describe(&self) -> String {
        "a barrier".to_owned()
    }

    async fn enqueue(&self, _: &Shard, _: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        unasked()
    }

    async fn step(
        &self,
        _: &Shard,
        _: &mut Vec<Settlement>,
        _: ClaimRequest,
    ) -> Result<Step, Error> {
        unasked()
    }

    async fn cancel(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unasked()
    }

    async fn retry(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unasked()
    }

    async fn emit(&self, _: &Shard, _: Vec<Emission>) -> Result<Vec<LeaseKey>, Error> {
        unasked()
    }

    async fn get(&self, _: &Shard, _: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        unasked()
    }

    async fn delete(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unasked()
    }

    async fn attach(&self, _: &JobId, _: Bytes) -> Result<(), Error> {
        unasked()
    }

    async fn attached(&self, _: &JobId) -> Result<Option<Bytes>, Error> {
        unasked()
    }

    async fn put_orphan(&self, _: &CallKey, _: &JobId, _: Duration) -> Result<(), Error> {
        unasked()
    }

    async fn take_orphan(&self, _: &Shard, _: &CallKey) -> Result<Option<JobId>, Error> {
        unasked()
    }

    async fn remove_orphan(&self, _: &CallKey, _: &JobId) -> Result<bool, Error> {
        unasked()
    }

    async fn body(&self, _: &JobId) -> Result<Option<Bytes>, Error> {
        unasked()
    }

    async fn ready(&self, _: &Shard) -> Result<[u64; 3], Error> {
        unasked()
    }

    async fn list(&self, _: &Shard, _: &TenantId, _: &ListQuery) -> Result<Page, Error> {
        unasked()
    }

    async fn layouts(&self) -> Result<Vec<Layout>, Error> {
        unasked()
    }

    async fn remember_layouts(&self, _: &[Layout]) -> Result<(), Error> {
        unasked()
    }

    async fn accepted(&self, _: &Shard, _: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error> {
        unasked()
    }

    async fn stats(&self, _: &Shard, _: Option<&TenantId>) -> Result<Stats, Error> {
        unasked()
    }

    async fn events(&self, _: &JobId, _: u64) -> Result<Vec<Event>, Error> {
        unasked()
    }

    async fn wait_for_work(&self, _: &Shard, _: Duration) -> Result<(), Error> {
        unasked()
    }

    async fn set_limits(
        &self,
        _: &Shard,
        _: &LaneLimits,
        _: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        unasked()
    }

    async fn has_limits(&self, _: &Shard) -> Result<bool, Error> {
        unasked()
    }

    async fn pause(&self, _: &Shard, _: Option<&TenantId>, _: bool) -> Result<(), Error> {
        unasked()
    }

    async fn stop(&self, _: &Shard, _: Duration) -> Result<(), Error> {
        unasked()
    }

    async fn paused(&self, _: &Shard) -> Result<Vec<Option<TenantId>>, Error> {
        unasked()
    }

    async fn throttle(&self, _: &Shard, _: &TenantId, _: &str, _: Rate) -> Result<Throttle, Error> {
        unasked()
    }

    async fn conversations(&self, _: &Shard, _: &TenantId) -> Result<Vec<Conversation>, Error> {
        unasked()
    }

    async fn conversation(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        unasked()
    }

    async fn change_profile(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &SessionKey,
        _: &ProfileChange,
    ) -> Result<bool, Error> {
        unasked()
    }

    async fn import_conversation(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &Conversation,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn forget(&self, _: &Shard, _: &TenantId, _: &SessionKey) -> Result<bool, Error> {
        unasked()
    }

    async fn take_out(&self, _: &Shard, _: &[End]) -> Result<(), Error> {
        unasked()
    }

    async fn beat_worker(&self, _: &WorkerId, _: &WorkerReport) -> Result<bool, Error> {
        unasked()
    }

    async fn remove_worker(&self, _: &WorkerId) -> Result<(), Error> {
        unasked()
    }

    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error> {
        unasked()
    }

    async fn postpone(&self, _: &Shard, _: &[End], _: Duration) -> Result<(), Error> {
        unasked()
    }

    async fn expire_keys(
        &self,
        _: &Shard,
        _: &[(TenantId, IdempotencyKey)],
        _: Duration,
    ) -> Result<(), Error> {
        unasked()
    }

    async fn directory(&self, _: u64) -> Result<Option<Directory>, Error> {
        unasked()
    }

    async fn set_directory(&self, _: u64, _: &Directory) -> Result<bool, Error> {
        unasked()
    }

    async fn ping(&self) -> Result<(), Error> {
        unasked()
    }
}
