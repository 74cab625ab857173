//! What every handler has at hand.

use std::{fmt, sync::Arc};

use causeway_queue::Queue;
use tokio_util::sync::CancellationToken;

use crate::{auth::Tenants, settings::Settings};

/// The state of the API: cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub(crate) queue: Queue,
    pub(crate) settings: Arc<Settings>,
    pub(crate) tenants: Tenants,
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) is_alive: Arc<dyn Fn() -> bool + Send + Sync>,
    stopping: CancellationToken,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AppState {
    /// The API over `queue`; `metrics` renders what `/metrics` answers.
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: Settings,
        tenants: Tenants,
        metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self {
            queue,
            settings: Arc::new(settings),
            tenants,
            metrics: Arc::new(metrics),
            is_alive: Arc::new(|| true),
            stopping: CancellationToken::new(),
        }
    }

    /// The same, with a worker in this process on which `/readyz` depends too.
    #[must_use]
    pub fn with_worker(self, is_alive: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_alive: Arc::new(is_alive), ..self }
    }

    /// Cancelled when the process stops: whoever waits then is told how things stand.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}
