//! A test backend: each call blocks on a barrier until all shards were called, so sequential code deadlocks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{
    Backend, Error, IdempotencyKey, JobId, Lane, LaneName, LeaseKey, NewJob, Queue, SessionKey,
    Settlement, Shard, TenantId,
    backend::{
        Administration, Conversations, DirectoryStore, Emission, ListQuery, Orphans, Outbox, Page,
        Reaped, Repairs, Stats, Transitions, Views, WorkerRegistry,
    },
    directory::Directory,
    event::Event,
    id::Layout,
    job::{Accepted, Job},
    lease::{ClaimRequest, Extended, Step},
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
pub(crate) struct BarrierBackend {
    pub(crate) barrier: Barrier,
    news: Arc<Switchboard>,
}

impl BarrierBackend {
    /// Returns a queue of three shards. The barrier opens for their three calls plus `others`.
    pub(crate) fn with(others: usize) -> (Arc<Self>, Queue) {
        let backend = Arc::new(Self { barrier: Barrier::new(3 + others), news: Arc::default() });
        let lane = Lane { shards: 3, ..Lane::named(LaneName::default_lane()) };
        let queue = Queue::new(Arc::clone(&backend) as Arc<dyn Backend>, vec![lane]);
        (backend, queue)
    }

    async fn wait_for_all<T: Default>(&self) -> Result<T, Error> {
        self.barrier.wait().await;
        Ok(T::default())
    }
}

fn unsupported<T>() -> T {
    panic!("the barrier backend has no such call")
}

#[async_trait]
impl Transitions for BarrierBackend {
    async fn enqueue(&self, _: &Shard, _: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        unsupported()
    }

    async fn accepted(&self, _: &Shard, _: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error> {
        unsupported()
    }

    async fn expire_keys(
        &self,
        _: &Shard,
        _: &[(TenantId, IdempotencyKey)],
        _: Duration,
    ) -> Result<(), Error> {
        unsupported()
    }

    async fn step(
        &self,
        _: &Shard,
        _: &mut Vec<Settlement>,
        _: ClaimRequest,
    ) -> Result<Step, Error> {
        unsupported()
    }

    async fn wait_for_work(&self, _: &Shard, _: Duration) -> Result<(), Error> {
        unsupported()
    }

    async fn extend_leases(
        &self,
        _: &Shard,
        _: &[LeaseKey],
        _: Duration,
    ) -> Result<Extended, Error> {
        self.wait_for_all().await
    }

    async fn reap(&self, _: &Shard) -> Result<Reaped, Error> {
        self.wait_for_all().await
    }

    async fn cancel(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unsupported()
    }

    async fn retry(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unsupported()
    }

    async fn delete(&self, _: &TenantId, _: &JobId) -> Result<bool, Error> {
        unsupported()
    }

    async fn attach(&self, _: &JobId, _: Bytes) -> Result<(), Error> {
        unsupported()
    }

    async fn emit(&self, _: &Shard, _: Vec<Emission>) -> Result<Vec<LeaseKey>, Error> {
        unsupported()
    }

    async fn reconcile(&self, _: &Shard) -> Result<Repairs, Error> {
        self.wait_for_all().await
    }
}

#[async_trait]
impl Views for BarrierBackend {
    async fn get(&self, _: &Shard, _: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        unsupported()
    }

    async fn body(&self, _: &JobId) -> Result<Option<Bytes>, Error> {
        unsupported()
    }

    async fn attached(&self, _: &JobId) -> Result<Option<Bytes>, Error> {
        unsupported()
    }

    async fn events(&self, _: &JobId, _: u64) -> Result<Vec<Event>, Error> {
        unsupported()
    }

    async fn list(&self, _: &Shard, _: &TenantId, _: &ListQuery) -> Result<Page, Error> {
        unsupported()
    }

    async fn stats(&self, _: &Shard, _: Option<&TenantId>) -> Result<Stats, Error> {
        unsupported()
    }

    async fn ready(&self, _: &Shard) -> Result<[u64; 3], Error> {
        unsupported()
    }
}

#[async_trait]
impl Administration for BarrierBackend {
    async fn set_limits(
        &self,
        _: &Shard,
        _: &LaneLimits,
        _: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        unsupported()
    }

    async fn has_limits(&self, _: &Shard) -> Result<bool, Error> {
        unsupported()
    }

    async fn pause(&self, _: &Shard, _: Option<&TenantId>, _: bool) -> Result<(), Error> {
        unsupported()
    }

    async fn paused(&self, _: &Shard) -> Result<Vec<Option<TenantId>>, Error> {
        unsupported()
    }

    async fn stop(&self, _: &Shard, _: Duration) -> Result<(), Error> {
        unsupported()
    }

    async fn throttle(&self, _: &Shard, _: &TenantId, _: &str, _: Rate) -> Result<Throttle, Error> {
        unsupported()
    }

    async fn layouts(&self) -> Result<Vec<Layout>, Error> {
        unsupported()
    }

    async fn remember_layouts(&self, _: &[Layout]) -> Result<(), Error> {
        unsupported()
    }

    async fn ping(&self) -> Result<(), Error> {
        unsupported()
    }

    fn describe(&self) -> String {
        "a barrier".to_owned()
    }
}

#[async_trait]
impl Conversations for BarrierBackend {
    async fn conversations(&self, _: &Shard, _: &TenantId) -> Result<Vec<Conversation>, Error> {
        unsupported()
    }

    async fn conversation(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        unsupported()
    }

    async fn change_profile(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &SessionKey,
        _: &ProfileChange,
    ) -> Result<bool, Error> {
        unsupported()
    }

    async fn import_conversation(
        &self,
        _: &Shard,
        _: &TenantId,
        _: &Conversation,
    ) -> Result<(), Error> {
        unsupported()
    }

    async fn forget(&self, _: &Shard, _: &TenantId, _: &SessionKey) -> Result<bool, Error> {
        unsupported()
    }
}

#[async_trait]
impl Outbox for BarrierBackend {
    async fn outbox(&self, _: &Shard, _: usize) -> Result<Vec<End>, Error> {
        self.wait_for_all().await
    }

    async fn take_out(&self, _: &Shard, _: &[End]) -> Result<(), Error> {
        unsupported()
    }

    async fn postpone(&self, _: &Shard, _: &[End], _: Duration) -> Result<(), Error> {
        unsupported()
    }
}

#[async_trait]
impl Orphans for BarrierBackend {
    async fn put_orphan(&self, _: &CallKey, _: &JobId, _: Duration) -> Result<(), Error> {
        unsupported()
    }

    async fn take_orphan(&self, _: &Shard, _: &CallKey) -> Result<Option<JobId>, Error> {
        unsupported()
    }

    async fn remove_orphan(&self, _: &CallKey, _: &JobId) -> Result<bool, Error> {
        unsupported()
    }
}

#[async_trait]
impl WorkerRegistry for BarrierBackend {
    async fn beat_worker(&self, _: &WorkerId, _: &WorkerReport) -> Result<bool, Error> {
        unsupported()
    }

    async fn remove_worker(&self, _: &WorkerId) -> Result<(), Error> {
        unsupported()
    }

    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error> {
        unsupported()
    }
}

#[async_trait]
impl DirectoryStore for BarrierBackend {
    async fn directory(&self, _: u64) -> Result<Option<Directory>, Error> {
        unsupported()
    }

    async fn set_directory(&self, _: u64, _: &Directory) -> Result<bool, Error> {
        unsupported()
    }
}

impl Backend for BarrierBackend {
    fn news(&self) -> &Arc<Switchboard> {
        &self.news
    }
}
