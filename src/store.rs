//! Opens the configured store.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use causeway_embedded::Embedded;
use causeway_queue::{Backend, Policy, Queue, clock::SystemClock};
use causeway_redis::RedisStore;

use crate::config::Config;

/// Opens the queue over the configured store: Redis, or embedded in this process.
///
/// # Errors
/// If Redis does not answer, or is too old.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Queue> {
    let Config { retention, give_up_after, max_stalls, max_dead, .. } = *config;
    let tenant_deliveries = config.webhooks.tenant_deliveries();
    let policy = Policy {
        retention,
        give_up_after,
        max_stalls,
        max_dead,
        tenant_deliveries,
        ..Policy::default()
    };
    let backend: Arc<dyn Backend> = match &config.redis {
        None => Arc::new(Embedded::new(policy, Arc::new(SystemClock::default()))),
        Some(url) => {
            let store = RedisStore::connect(url.expose(), policy).await;
            let store = store
                .with_context(|| format!("cannot use the Redis at {}", url.without_password()))?;
            Arc::new(store)
        }
    };
    Ok(Queue::new(backend, config.queue_lanes()))
}

/// Refuses to start a single API or worker process without a shared store.
///
/// # Errors
/// If no Redis is configured.
pub(crate) fn need_redis(config: &Config, command: &str) -> anyhow::Result<()> {
    if config.redis.is_none() {
        bail!(
            "`causeway {command}` needs --redis URL: API and worker processes share their queue in a Redis; \
             `causeway up` runs everything in one process without one"
        );
    }
    Ok(())
}
