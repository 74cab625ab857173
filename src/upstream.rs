//! Makes the upstreams that the configuration names.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use causeway_queue::{LaneName, Queue, webhook::is_of_deliveries};
use causeway_worker::{
    Deliverer, OpenAi, Secret as Key, Signing, Simulated, Upstream, WithResponses,
};

use crate::config::{Config, Secret, without_password};

/// The upstream of every lane of `queue`: its own, else the one of the top level, else simulated
/// answers; of the lane of deliveries what signs by `signing` and delivers.
///
/// # Errors
/// When a server's address is none.
pub(crate) fn of_lanes(
    config: &Config,
    queue: &Queue,
    signing: Signing,
) -> anyhow::Result<HashMap<LaneName, Arc<dyn Upstream>>> {
    let general: Arc<dyn Upstream> = match &config.upstream {
        None => Arc::new(Simulated::new(config.simulation())),
        Some(url) => server(config, url, config.api_key.as_ref())?,
    };
    let mut upstreams = HashMap::new();
    let deliverer = Deliverer::new(signing, config.allowed(), config.webhooks.timeout)
        .context("cannot deliver to webhooks")?;
    upstreams.insert(LaneName::webhooks(), Arc::new(deliverer) as Arc<dyn Upstream>);
    for lane in queue.lanes().iter().filter(|lane| !is_of_deliveries(&lane.name)) {
        let configured = config.lanes.iter().find(|configured| configured.name == lane.name);
        let own = configured.and_then(|lane| Some((lane.upstream.as_ref()?, &lane.api_key)));
        let upstream = match own {
            Some((url, key)) => server(config, url, key.as_ref())?,
            None => Arc::clone(&general),
        };
        upstreams.insert(lane.name.clone(), Arc::new(WithResponses::new(upstream)) as Arc<_>);
    }
    Ok(upstreams)
}

fn server(config: &Config, url: &str, key: Option<&Secret>) -> anyhow::Result<Arc<dyn Upstream>> {
    let key = key.map(|key| Key::new(key.expose()));
    let upstream = OpenAi::new(url, key, &config.timeouts());
    Ok(Arc::new(
        upstream.with_context(|| format!("cannot use the upstream {}", without_password(url)))?,
    ))
}
