//! The models of `GET /v1/models`: those of the lanes, and those of the upstream that serves all
//! other models.

use causeway_api::{Model, ModelsSource};
use causeway_worker::{ListedModel, UpstreamClient};
use futures_util::FutureExt as _;

use super::Clients;
use crate::{
    banner::Role,
    config::{Config, ConfiguredLane},
};

/// Returns the models that are known without a call of an upstream.
pub(crate) fn configured(config: &Config, role: Role) -> Vec<Model> {
    let models = of_lanes(config);
    if !models.is_empty() {
        return models;
    }
    vec![match (&config.upstream, role) {
        (None, Role::Up) => model("simulated", "causeway-simulated"),
        (None, Role::Api | Role::Worker) | (Some(_), _) => model(&config.bridge.model, "default"),
    }]
}

/// Returns true if neither the configuration names models nor this process simulates them.
pub(crate) fn are_unknown(config: &Config, role: Role) -> bool {
    let simulates = match role {
        Role::Up => config.upstream.is_none(),
        Role::Api | Role::Worker => false,
    };
    !simulates && of_lanes(config).is_empty()
}

/// Makes the source of all other models: the upstream of the first lane, which serves every model
/// that no lane names. `None` if that lane names its models, or if its answers are simulated.
pub(crate) fn source(config: &Config, clients: &Clients) -> Option<ModelsSource> {
    let lane = config.lanes.first();
    if lane.is_some_and(|lane| !lane.models.is_empty()) {
        return None;
    }
    let client = clients.find(config, lane)?.clone();
    let owner = lane.map_or("default", |lane| lane.name.as_str()).to_owned();
    let named = of_lanes(config);
    Some(ModelsSource::new(move || fetch(client.clone(), owner.clone(), named.clone()).boxed()))
}

async fn fetch(
    client: UpstreamClient,
    owner: String,
    mut models: Vec<Model>,
) -> Option<Vec<Model>> {
    let listed = match client.models().await {
        Ok(listed) => listed,
        Err(why) => {
            let upstream = client.address();
            tracing::warn!(%upstream, why, "cannot list the models of the upstream");
            return None;
        }
    };
    for ListedModel { id, fields } in listed {
        // A model that a lane names belongs to that lane.
        if models.iter().all(|known| known.id != id) {
            let owned_by = fields.get("owned_by").and_then(|owner| owner.as_str());
            let owned_by = owned_by.unwrap_or(&owner).to_owned();
            models.push(Model { id, owned_by, fields });
        }
    }
    Some(models)
}

fn of_lanes(config: &Config) -> Vec<Model> {
    let of_lane = |lane: &ConfiguredLane| {
        let name = lane.name.clone();
        lane.models.iter().map(move |id| model(id, name.as_str())).collect::<Vec<_>>()
    };
    config.lanes.iter().flat_map(of_lane).collect()
}

fn model(id: &str, owned_by: &str) -> Model {
    let fields = serde_json::Map::new();
    Model { id: id.to_owned(), owned_by: owned_by.to_owned(), fields }
}

#[cfg(test)]
mod tests {
    use causeway_queue::LaneName;

    use super::*;

    #[test]
    fn unnamed_models_are_unknown() {
        let mut config = Config::default();
        assert!(are_unknown(&config, Role::Api));
        assert!(!are_unknown(&config, Role::Up));
        let mut lane = ConfiguredLane::named(LaneName::new("gpu").unwrap());
        lane.models = vec!["m".to_owned()];
        config.lanes = vec![lane];
        assert!(!are_unknown(&config, Role::Api));
    }
}
