//! Makes the upstream that the configuration names.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use causeway_queue::{LaneName, Queue};
use causeway_worker::{OpenAi, Secret, Simulated, Upstream};

use crate::config::Config;

/// The upstream of every lane of `queue`: the configured server, else simulated answers.
///
/// # Errors
/// When the server's address is none.
pub(crate) fn of_lanes(
    config: &Config,
    queue: &Queue,
) -> anyhow::Result<HashMap<LaneName, Arc<dyn Upstream>>> {
    let upstream: Arc<dyn Upstream> = match &config.upstream {
        None => Arc::new(Simulated::new(config.simulation())),
        Some(url) => {
            let key = config.api_key.as_ref().map(|key| Secret::new(key.expose()));
            let upstream = OpenAi::new(url, key, &config.timeouts());
            Arc::new(upstream.with_context(|| format!("cannot use the upstream {url}"))?)
        }
    };
    let lanes = queue.lanes().iter();
    Ok(lanes.map(|lane| (lane.name.clone(), Arc::clone(&upstream))).collect())
}
