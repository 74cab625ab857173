//! What every handler has at hand.

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
    audit::Rejections,
    auth::Tenants,
    budget::{Budget, Budgets},
    direct,
    gauges::Gauges,
    models::ModelCache,
    outage::Outage,
    settings::Settings,
    tenants::Registry,
};

/// How long a store that fails is read again for a caller whose job is accepted: the time of a restart.
const STORE_AWAY: Duration = Duration::from_secs(5);

/// The state of the API: cheap to clone, as axum does many times for every request.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Shared>);

/// What the clones share.
pub struct Shared {
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    pub(crate) tenants: Tenants,
    pub(crate) registry: Registry,
    pub(crate) metrics: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) is_alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// What is done for clients that have gone.
    pub(crate) errands: TaskTracker,
    /// Cancelled when no more jobs are taken, while what runs may still end.
    pub(crate) draining: CancellationToken,
    /// Cancelled when clients that can go on elsewhere shall, at the latest with `stopping`: readers of events, and long
    /// polls.
    pub(crate) handover: CancellationToken,
    pub(crate) stopping: CancellationToken,
    /// What bodies hold until they are stored.
    pub(crate) bodies: Arc<Budgets>,
    /// What answers hold until they are taken.
    pub(crate) answers: Budgets,
    pub(crate) rejections: Arc<Rejections>,
    /// What `/openapi.json` answers: with tenants, and without; made when it is first asked for.
    pub(crate) documents: OnceLock<[Bytes; 2]>,
    pub(crate) models: ModelCache,
    pub(crate) direct_calls: Arc<Budget>,
    pub(crate) gauges: Gauges,
    pub(crate) outage: Outage,
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AppState {
    /// The API over `queue`; `metrics` renders what `/metrics` answers, `is_alive` says whether the
    /// worker in this process, if there is one, turns: `/readyz` depends on it.
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: Settings,
        tenants: Tenants,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        is_alive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let stopping = CancellationToken::new();
        let budgets = || Budgets::new(settings.max_body_memory.max(settings.max_body_bytes));
        let registry = Registry::new(queue.clone(), tenants.clone());
        Self(Arc::new(Shared {
            registry,
            queue,
            bodies: Arc::new(budgets()),
            answers: budgets(),
            settings,
            tenants,
            metrics: Box::new(metrics),
            is_alive: Box::new(is_alive),
            errands: TaskTracker::new(),
            draining: CancellationToken::new(),
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

    /// Returns what was `found` at the end of a wait for a job that was accepted. If the store failed, it is read again
    /// for [`STORE_AWAY`], since the caller has no job to look for before it has the answer.
    pub(crate) async fn of_accepted(
        &self,
        found: Result<Option<Job>, Error>,
        tenant: &TenantId,
        id: &JobId,
    ) -> Result<Option<Job>, Error> {
        match found {
            Err(Error::Unavailable(_)) => self.look(tenant, id).await,
            job => job,
        }
    }

    /// A job that was accepted, as it is now. A store that fails is read again for [`STORE_AWAY`].
    pub(crate) async fn look(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        self.look_for(|| self.queue.job(tenant, id)).await
    }

    /// What `look` finds in the store, which is read again for [`STORE_AWAY`] if it fails; once only when the
    /// process stops.
    pub(crate) async fn look_for<T, F>(&self, look: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let at_most = if self.stopping.is_cancelled() { Duration::ZERO } else { STORE_AWAY };
        look_until(Instant::now() + at_most, look).await
    }

    /// The tenants that are put together from the configuration and the store.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// What `waiting` for the job's end answers; or, when the process stops before that, the job as
    /// it is then, which may have ended by the very last thing that this process did.
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

    /// The job when `waiting` for its end is over, or when its client shall wait on elsewhere.
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

    /// Cancelled when the process stops: whoever waits then is told how things stand.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}
