//! The output of a starting process.

use serde_json::Value;

use crate::support::{process::Causeway, redis::free_port};

#[tokio::test]
async fn the_defaults_simulate_answers() {
    let settings = &[("CAUSEWAY_SIMULATED_CALL", "1ms")];
    let up = Causeway::start(&["up", "--bind", "127.0.0.1:0"], settings).await;
    let client = up.client().await;
    for part in ["in memory", "SIMULATED", "curl http://127.0.0.1:"] {
        assert!(up.text().contains(part), "{part} is missing in\n{}", up.text());
    }
    let models = client.get("/v1/models").await.ok();
    let ids: Vec<&Value> =
        models["data"].as_array().expect("models").iter().map(|m| &m["id"]).collect();
    assert!(ids.contains(&&Value::from("simulated")), "{models:#}");
    let answer = client.chat("ann", "hello").await.ok();
    let text = answer["response"].as_str().expect("an answer");
    assert!(text.to_lowercase().contains("simulated"), "{text}");
}

#[tokio::test]
async fn two_processes_have_different_ports() {
    let (first, second) =
        (Causeway::start(&["up"], &[]).await, Causeway::start(&["up"], &[]).await);
    assert_ne!(first.url().await, second.url().await);
}

#[tokio::test]
async fn a_failed_start_explains_itself() {
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (arguments, code, parts) in [
        (vec!["up", "--bind", "0.0.0.0:0"], 1, ["0.0.0.0:0", "--allow-open-bind"]),
        (vec!["up", "--bind", &taken], 1, [taken.as_str(), "--bind"]),
        (vec!["api", "--redis", &nowhere], 1, [nowhere.as_str(), "refused: start a Redis there"]),
        (vec!["worker"], 1, ["--redis", "causeway up"]),
        (vec!["worker", "--redis", &nowhere], 1, ["--upstream", "--simulate"]),
        (vec!["up", "--redis", &nowhere], 1, ["--upstream", "--simulate"]),
        (vec!["up", "--drain", "2d"], 1, ["drain", "0ms to 1d"]),
        (vec!["up", "--bnid", "127.0.0.1:0"], 2, ["--bnid", "--bind"]),
    ] {
        let mut causeway = Causeway::launch(&arguments, &[]);
        let status = causeway.ended().await;
        let text = causeway.text();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
    }
}
