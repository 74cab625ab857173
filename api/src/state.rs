//! The shared state of all handlers.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use causeway_queue::{Error, JobId, Queue, TenantId, job::Job, reader::look_until};
use tokio::time::{Duration, Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    budget::{Budget, Budgets},
    caller::Tenants,
    direct,
    gauges::Gauges,
    model_cache::ModelCache,
    outage::Outage,
    rejections::Rejections,
    settings::Settings,
    tenants::registry::TenantRegistry,
};

/// The time for which a failing store is read again on behalf of an accepted job: that of a restart.
const STORE_RETRY_TIME: Duration = Duration::from_secs(5);

/// The state of the API. Cheap to clone; axum clones it several times for each request.
#[derive(Debug, Clone)]
pub struct AppState(Arc<ApiShared>);

/// The data that all clones share.
pub struct ApiShared {
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) tenants: Tenants,
    pub(crate) registry: TenantRegistry,
    pub(crate) metrics: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) is_alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Tasks on behalf of clients that left; the process waits for them when it stops.
    pub(crate) background_tasks: TaskTracker,
    /// Cancelled when no more jobs are accepted; running requests may still end.
    pub(crate) draining: CancellationToken,
    /// Cancelled when event streams and long polls must continue at another process; at the latest together with
    /// `stopping`.
    pub(crate) handover: CancellationToken,
    pub(crate) stopping: CancellationToken,
    /// The budgets of request bodies until they are stored.
    pub(crate) bodies: Arc<Budgets>,
    /// The budgets of answers until clients have read them.
    pub(crate) answers: Budgets,
    pub(crate) rejections: Arc<Rejections>,
    /// The two variants of `/openapi.json`, with and without tenants, rendered on first use.
    pub(crate) documents: OnceLock<[Bytes; 2]>,
    pub(crate) models: ModelCache,
    pub(crate) direct_calls: Arc<Budget>,
    pub(crate) gauges: Gauges,
    pub(crate) outage: Outage,
}

impl Deref for AppState {
    type Target = ApiShared;

    fn deref(&self) -> &ApiShared {
        &self.0
    }
}

impl fmt::Debug for ApiShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AppState {
    /// Returns the state of an API for `queue`. `metrics` renders the answer of `/metrics`; `is_alive` is false if
    /// the worker in this process is stuck, which `/readyz` reports.
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: Settings,
        tenants: Tenants,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        is_alive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let stopping = CancellationToken::new();
        // One body of the maximum size must always fit.
        let budgets = || Budgets::new(settings.max_body_memory.max(settings.max_body_bytes));
        let registry = TenantRegistry::new(queue.clone(), tenants.clone());
        Self(Arc::new(ApiShared {
            registry,
            queue,
            bodies: Arc::new(budgets()),
            answers: budgets(),
            settings,
            tenants,
            metrics: Box::new(metrics),
            is_alive: Box::new(is_alive),
            background_tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            // A child: the stop implies the handover, but not the reverse.
            handover: stopping.child_token(),
            stopping,
            rejections: Arc::default(),
            documents: OnceLock::new(),
            models: ModelCache::default(),
            direct_calls: Arc::new(Budget::new(direct::MAX_CALLS)),
            gauges: Gauges::default(),
            outage: Outage::default(),
        }))
    }

    /// Returns `found`, the result of a wait for an accepted job. After a failure the store is read again for
    /// [`STORE_RETRY_TIME`], because the caller does not know the id of its job yet.
    pub(crate) async fn accepted_job(
        &self,
        found: Result<Option<Job>, Error>,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, Error> {
        match found {
            Err(Error::Unavailable(_)) => self.read_job(tenant, id).await,
            job => job,
        }
    }

    /// Returns an accepted job. A failing store is read again for [`STORE_RETRY_TIME`].
    pub(crate) async fn read_job(
        &self,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, Error> {
        self.read_with_retries(|| self.queue.job(tenant, id)).await
    }

    /// Returns the result of `read`. A failing store is read again for [`STORE_RETRY_TIME`], or only once while the
    /// process stops.
    pub(crate) async fn read_with_retries<T, F>(&self, read: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // A stopping process has no time left for retries.
        let at_most = if self.stopping.is_cancelled() { Duration::ZERO } else { STORE_RETRY_TIME };
        look_until(Instant::now() + at_most, read).await
    }

    /// Returns the registry of configured and stored tenants.
    #[must_use]
    pub fn registry(&self) -> TenantRegistry {
        self.registry.clone()
    }

    /// Returns the result of `waiting` for the end of a job, or the current job when the process stops. The worker
    /// of this process may just have ended it.
    pub(crate) async fn unless_stopped(
        &self,
        waiting: impl Future<Output = Result<Option<Job>, Error>>,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, Error> {
        tokio::select! {
            job = waiting => job,
            () = self.stopping.cancelled() => self.queue.job(tenant, id).await,
        }
    }

    /// Returns the result of `waiting` for the end of a job, or the current job when its client must continue at
    /// another process.
    pub(crate) async fn unless_handed_over(
        &self,
        waiting: impl Future<Output = Result<Option<Job>, Error>>,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, Error> {
        tokio::select! {
            job = self.unless_stopped(waiting, tenant, id) => job,
            () = self.handover.cancelled() => self.queue.job(tenant, id).await,
        }
    }

    /// Returns the token that is cancelled when the process stops. All waiting requests are answered then.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}
