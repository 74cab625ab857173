//! The list of models: the source, and the latest list.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

/// A model of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// The lane, the owner that the upstream lists, or `causeway-simulated`.
    pub owned_by: String,
    /// Further fields of the upstream's list.
    pub fields: Map<String, Value>,
}

/// The source of the upstreams' models. It limits the duration of a fetch itself.
#[derive(Clone)]
pub struct ModelsSource(
    pub(crate) Arc<dyn Fn() -> BoxFuture<'static, Option<Vec<Model>>> + Send + Sync>,
);

impl ModelsSource {
    /// Wraps `ask`, which returns `None` if the upstreams list no models.
    pub fn new(
        ask: impl Fn() -> BoxFuture<'static, Option<Vec<Model>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for ModelsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelsSource(…)")
    }
}

/// The latest list of the upstreams, and the time at which it expires.
#[derive(Debug, Default)]
pub(crate) struct ModelCache(pub(crate) Mutex<Option<(Instant, Arc<[Model]>)>>);
