//! The status of workers that start, stop and crash.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::support::{
    eventually,
    http::Client,
    process::Causeway,
    redis::{RedisServer, free_port},
    upstream::Upstream,
};

/// The longest time for which a crashed worker may be shown as live.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Waits until `look` finds `wanted`, at most [`SEEN_WITHIN`].
async fn seen<T: PartialEq + std::fmt::Debug>(wanted: T, look: impl AsyncFn() -> T) {
    let what = format!("{wanted:?}");
    let found = eventually(&what, async || (look().await == wanted).then_some(()));
    timeout(SEEN_WITHIN, found).await.unwrap_or_else(|_| panic!("{what} was seen too late"));
}

/// Returns the statuses of the workers with these names.
async fn statuses(client: &Client, names: [&str; 2]) -> [Option<String>; 2] {
    let list = client.get("/v1/workers").await.ok();
    assert_eq!(list["object"], "list");
    let workers = list["data"].as_array().expect("a list");
    names.map(|name| {
        let found = workers.iter().find(|worker| worker["name"] == name)?;
        found["status"].as_str().map(str::to_owned)
    })
}

fn text(statuses: [&str; 2]) -> [Option<String>; 2] {
    statuses.map(|status| Some(status.to_owned()))
}

async fn metric(client: &Client, name: &str) -> Option<String> {
    let metrics = client.get("/metrics").await.body;
    let line = metrics.as_str()?.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

#[tokio::test]
async fn a_lost_worker_shows_within_ten_seconds() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let settings = |name| [("CAUSEWAY_CONCURRENCY", "1"), ("CAUSEWAY_WORKER_NAME", name)];
    let frozen = Causeway::worker(&redis.url(), &upstream.url(), &settings("frozen")).await;
    let mut killed = Causeway::worker(&redis.url(), &upstream.url(), &settings("killed")).await;
    let client = api.client().await;
    let names = ["frozen", "killed"];
    seen(text(["live", "live"]), async || statuses(&client, names).await).await;
    let running = [client.submit("one").await, client.submit("two").await];
    let _calls = upstream.calls(2).await;
    let waiting = client.submit("three").await;
    let reason = async || client.job(&waiting).await["waiting_for"].clone();
    assert_eq!(reason().await, "turn");

    frozen.freeze();
    seen(text(["lost", "live"]), async || statuses(&client, names).await).await;
    let live = "causeway_workers{status=\"live\"}";
    seen(Some("1".to_owned()), async || metric(&client, live).await).await;
    assert_eq!(reason().await, "turn");
    let list = Causeway::command(&["worker", "list", "--url", client.base()], &[]).await;
    let row = |name: &str| list.lines().find(|line| line.starts_with(name)).expect("a row");
    assert!(row("frozen").contains("lost") && row("killed").contains("1/1"), "{list}");

    killed.kill().await;
    let watch = Causeway::launch(&["watch", &waiting, "--url", client.base()], &[]);
    timeout(SEEN_WITHIN, watch.says("(no_worker)")).await.expect("watch says it in time");
    let lane = async || {
        let lane = client.get("/v1/queue").await.ok()["lanes"][0].clone();
        [lane["waiting_for"].clone(), lane["workers"].clone(), lane["estimated_wait_ms"].clone()]
    };
    assert_eq!(lane().await, ["no_worker".into(), 0.into(), Value::Null]);
    assert_eq!(reason().await, "no_worker");
    let served = "causeway_lane_workers{lane=\"default\"}";
    seen(Some("0".to_owned()), async || metric(&client, served).await).await;
    let ready = client.get("/readyz").await.ok();
    assert_eq!((&ready["status"], &ready["workers"]), (&"ok".into(), &0.into()));
    assert!(ready["warning"].as_str().expect("a warning").contains("no live worker"));

    // The worker resumes, and then stops in order.
    frozen.thaw();
    seen(text(["live", "lost"]), async || statuses(&client, names).await).await;
    frozen.terminate();
    seen(Some("draining".to_owned()), async || statuses(&client, names).await[0].clone()).await;
    drop(running);
}

#[tokio::test]
async fn watch_shows_a_failing_upstream() {
    let nothing = format!("http://127.0.0.1:{}/v1", free_port());
    let causeway = Causeway::up(&nothing, &[]).await;
    let client = causeway.client().await;
    let id = client.submit("hello").await;
    let watch = Causeway::launch(&["watch", &id, "--url", client.base()], &[]);
    watch.says("(upstream_down)").await;
    // The attempts were given back.
    assert!(!watch.text().contains("attempt 0"), "{}", watch.text());
}

#[tokio::test]
async fn a_stopped_worker_leaves_the_registry() {
    let upstream = Upstream::echo().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let mut worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let id = client.submit("hello").await;
    assert_eq!(client.end_of(&id).await["status"], "succeeded");
    let list = client.get("/v1/workers").await.ok();
    let name = list["data"][0]["name"].as_str().expect("a name");
    assert!(name.contains(':'), "host and process: {name}");
    worker.terminate();
    assert!(worker.ended().await.success());
    assert_eq!(client.get("/v1/workers").await.ok()["data"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_long_rate_limit_is_logged_once() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let client = up.client().await;
    let ids = [client.submit("one").await, client.submit("two").await];
    for call in upstream.calls(2).await {
        call.busy(3600);
    }
    up.says("the upstream refuses requests").await;
    seen("upstream_rate".into(), async || client.job(&ids[1]).await["waiting_for"].clone()).await;
    let details = client.job(&ids[0]).await["waiting_details"].clone();
    assert!(details["until"].is_string(), "{details:#}");
    assert_eq!(up.text().matches("the upstream refuses requests").count(), 1, "{}", up.text());
}
