//! Checks of the compose file against the binary that it starts.

use serde_json::Value;

use crate::support::{process::Causeway, redis::RedisServer};

fn compose() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml");
    let text = std::fs::read_to_string(path).expect("the compose file");
    serde_saphyr::from_str(&text).expect("it is YAML")
}

/// Returns the arguments and variables of a service, with another Redis and free ports.
fn of_service(service: &Value, redis: &str) -> (Vec<String>, Vec<(String, String)>) {
    let arguments = service["command"].as_array().expect("a command").iter();
    let arguments = arguments.map(|word| word.as_str().expect("a word").to_owned()).collect();
    let variables = service["environment"].as_object().expect("variables").iter();
    let variables = variables.filter_map(|(name, value)| {
        let value = match (name.as_str(), value.as_str()?) {
            ("CAUSEWAY_REDIS", _) => redis.to_owned(),
            ("CAUSEWAY_BIND", "0.0.0.0:4004") => "0.0.0.0:0".to_owned(),
            ("CAUSEWAY_PROBE", "127.0.0.1:4005") => "127.0.0.1:0".to_owned(),
            (_, value) => value.to_owned(),
        };
        Some((name.clone(), value))
    });
    (arguments, variables.collect())
}

#[test]
fn every_compose_service_has_a_health_check() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    let mut names: Vec<_> = services.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["api", "redis", "worker"]);
    for (name, service) in services {
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
    }
    assert_eq!(services["worker"]["deploy"]["replicas"], 2);
}

#[test]
fn api_and_workers_share_an_upstream() {
    let compose = compose();
    let has = |service: &str, name: &str| {
        compose["services"][service]["environment"]
            .as_object()
            .expect("variables")
            .contains_key(name)
    };
    for name in ["CAUSEWAY_UPSTREAM", "CAUSEWAY_API_KEY_ENV", "OPENAI_API_KEY"] {
        assert!(has("worker", name) && has("api", name), "{name}");
    }
}

#[test]
fn compose_ports_are_bound_to_loopback() {
    for (name, service) in compose()["services"].as_object().expect("services") {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("a text");
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
}

#[tokio::test]
async fn the_binary_accepts_the_compose_file() {
    let redis = RedisServer::start();
    let compose = compose();
    for name in ["api", "worker"] {
        let (arguments, variables) = of_service(&compose["services"][name], &redis.url());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let settings: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut causeway = Causeway::start(&arguments, &settings).await;
        causeway.terminate();
        assert!(causeway.ended().await.success(), "{name}");
    }
}
