//! Makes and checks the configured upstreams, and lists their models.

pub(crate) mod check;
pub(crate) mod direct;
pub(crate) mod models;

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use causeway_queue::{LaneName, Queue, webhook::is_of_deliveries};
use causeway_worker::{
    Deliverer, OpenAi, Signing, SimulatedUpstream, Upstream, UpstreamClient, WithResponses,
};

use crate::config::{Config, ConfiguredLane, ConfiguredUpstream};

/// The clients of the upstreams; lanes with the same connection settings share one.
#[derive(Debug)]
pub(crate) struct Clients(Vec<(ConfiguredUpstream, UpstreamClient)>);

impl Clients {
    /// Makes the clients of all configured upstreams.
    ///
    /// # Errors
    /// If the key or a file of an upstream is unusable.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        let upstreams = config.upstreams().into_iter();
        let client = |(configured, _)| {
            let client = client(&configured, config)?;
            Ok((configured, client))
        };
        upstreams.map(client).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Returns the client of `lane`, or of the top level; `None` if answers are simulated.
    pub(crate) fn find(
        &self,
        config: &Config,
        lane: Option<&ConfiguredLane>,
    ) -> Option<&UpstreamClient> {
        let configured = config.upstream_of(lane)?;
        self.0.iter().find(|(known, _)| *known == configured).map(|(_, client)| client)
    }
}

/// Makes the client of an upstream.
///
/// # Errors
/// If its key or a file is unusable.
pub(crate) fn client(
    configured: &ConfiguredUpstream,
    config: &Config,
) -> anyhow::Result<UpstreamClient> {
    let client = UpstreamClient::new(&configured.settings, config.timeouts().connect);
    client.with_context(|| format!("cannot use the upstream {}", configured.settings.address))
}

/// Refuses lanes without an upstream, unless simulated answers are permitted: with a Redis, or
/// beside other upstreams, users would take a made-up answer for a real one.
///
/// # Errors
/// If there is such a lane.
pub(crate) fn need_upstreams(config: &Config) -> anyhow::Result<()> {
    let is_demo = config.redis.is_none() && config.lanes.iter().all(|l| l.upstream.is_none());
    if config.simulate || is_demo {
        return Ok(());
    }
    let simulated = simulated_lanes(config);
    let Some(lane) = simulated.first() else { return Ok(()) };
    bail!(
        "the lane {lane} has no upstream, and its answers would be made up: name a model's server with \
         --upstream URL (CAUSEWAY_UPSTREAM, or `upstream` of the lane), or permit simulated answers with \
         --simulate (CAUSEWAY_SIMULATE=true)"
    )
}

/// Returns the lanes with simulated answers.
pub(crate) fn simulated_lanes(config: &Config) -> Vec<LaneName> {
    if config.upstream.is_some() {
        return Vec::new();
    }
    let lanes = config.queue_lanes().into_iter().map(|lane| lane.name);
    let has_own = |name: &LaneName| {
        config.lanes.iter().any(|lane| lane.name == *name && lane.upstream.is_some())
    };
    lanes.filter(|name| !is_of_deliveries(name) && !has_own(name)).collect()
}

/// Returns the upstream of every lane of `queue`: its own, else that of the top level, else
/// simulated answers; the webhook lane gets the deliverer that signs with `signing`.
///
/// # Errors
/// If the HTTP client of the deliverer cannot be made.
pub(crate) fn of_lanes(
    config: &Config,
    queue: &Queue,
    signing: Signing,
    clients: &Clients,
) -> anyhow::Result<HashMap<LaneName, Arc<dyn Upstream>>> {
    let simulated: Arc<dyn Upstream> = Arc::new(SimulatedUpstream::new(config.simulation()));
    let mut upstreams = HashMap::new();
    let deliverer = Deliverer::new(signing, config.allowed(), config.webhooks.timeout)
        .context("cannot deliver to webhooks")?;
    upstreams.insert(LaneName::webhooks(), Arc::new(deliverer) as Arc<dyn Upstream>);
    for lane in queue.lanes().iter().filter(|lane| !is_of_deliveries(&lane.name)) {
        let configured = config.lanes.iter().find(|configured| configured.name == lane.name);
        let upstream: Arc<dyn Upstream> = match clients.find(config, configured) {
            Some(client) => Arc::new(OpenAi::new(client.clone(), &config.timeouts())),
            None => Arc::clone(&simulated),
        };
        // An upstream without `/v1/responses` gets these calls as chats.
        upstreams.insert(lane.name.clone(), Arc::new(WithResponses::new(upstream)) as Arc<_>);
    }
    Ok(upstreams)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), toml).unwrap();
        let flags = serde_json::json!({});
        crate::config::load(&flags, Some(path.path().to_owned()), &Default::default()).unwrap()
    }

    #[test]
    fn simulation_beside_real_upstreams_needs_permission() {
        const REDIS: &str = "redis = \"redis://127.0.0.1:6379\"\n";
        const REAL: &str = "upstream = \"http://127.0.0.1:9101/v1\"\n";
        const SHOW: &str = "[[lane]]\nname = \"show\"\n";
        const GPU: &str = "[[lane]]\nname = \"gpu\"\nupstream = \"http://127.0.0.1:9101/v1\"\n";
        for (text, missing) in [
            (String::new(), None),
            (SHOW.to_owned(), None),
            (REDIS.to_owned(), Some("default")),
            (format!("{REDIS}simulate = true"), None),
            (format!("{REDIS}{REAL}"), None),
            (format!("{REDIS}{GPU}"), None),
            (format!("{GPU}{SHOW}"), Some("show")),
            (format!("{REDIS}{GPU}{SHOW}"), Some("show")),
            (format!("{REDIS}{REAL}{GPU}{SHOW}"), None),
            (format!("{REDIS}simulate = true\n{GPU}{SHOW}"), None),
        ] {
            let refused = need_upstreams(&config(&text)).err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), missing.is_some(), "{text}: {refused:?}");
            if let (Some(lane), Some(said)) = (missing, refused) {
                for part in [lane, "--upstream", "--simulate"] {
                    assert!(said.contains(part), "{text}: {said}");
                }
            }
        }
    }
}
