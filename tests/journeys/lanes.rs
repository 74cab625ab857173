//! Lanes: pause, resume, and a changed number of shards.

use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::{http::chat, process::Causeway, redis::RedisServer, upstream::Upstream};

#[tokio::test]
async fn a_pause_survives_a_restart() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let mut api = Causeway::api(&redis.url(), &[]).await;
    let mut worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    let paused = Causeway::command(&["lane", "pause", "--url", client.base()], &[]).await;
    assert!(paused.lines().any(|line| line.starts_with("default") && line.ends_with("paused")));
    let id = client.submit("hello").await;
    assert_eq!(client.job(&id).await["waiting_for"], "paused");

    api.kill().await;
    worker.kill().await;
    let api = Causeway::api(&redis.url(), &[]).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    assert_eq!(client.job(&id).await["waiting_for"], "paused");
    assert!(!upstream.has_call());
    let arguments = ["lane", "resume", "default", "--url", client.base()];
    let resumed = Causeway::command(&arguments, &[]).await;
    assert!(resumed.lines().any(|line| line.starts_with("default") && line.ends_with("open")));
    upstream.call().await.answer("at last");
    assert_eq!(client.end_of(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn a_reload_changes_a_lanes_limits() {
    let mut upstream = Upstream::held().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("the file can be written");
    write("[[lane]]\nname = \"default\"\n");
    let settings = [("CAUSEWAY_CONFIG", file.to_str().expect("a path"))];
    let up = Causeway::up(&upstream.url(), &settings).await;
    let client = up.client().await;
    write("[[lane]]\nname = \"default\"\nmax_running = 1\n[[lane]]\nname = \"gpu\"\n");
    up.reload();
    up.says("lane gpu is new and not served yet").await;
    up.says("was read again").await;
    let first = client.submit("hello").await;
    let call = upstream.call().await;
    let second = client.submit("hello again").await;
    assert_eq!(client.job(&second).await["waiting_for"], "lane_cap");
    call.answer("hello to you");
    upstream.call().await.answer("and again");
    for id in [first, second] {
        assert_eq!(client.end_of(&id).await["status"], "succeeded");
    }
}

/// Writes a configuration with `shards` shards, and with enough tenants that each shard has some.
fn write_config(file: &Path, shards: u16) {
    let mut text = format!("[[lane]]\nname = \"default\"\nshards = {shards}\n");
    for tenant in 0..24 {
        let digest = Sha256::digest(format!("key-{tenant}"));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("[[tenant]]\nid = \"t{tenant}\"\nkey_sha256 = [\"{digest}\"]\n");
    }
    std::fs::write(file, text).expect("the file can be written");
}

#[tokio::test]
async fn jobs_of_former_shards_still_run() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let settings = [("CAUSEWAY_CONFIG", file.to_str().expect("a path"))];
    write_config(&file, 4);
    let mut api = Causeway::api(&redis.url(), &settings).await;
    let mut jobs = Vec::new();
    let client = api.client().await;
    for tenant in 0..24 {
        let key = format!("key-{tenant}");
        jobs.push((client.with_key(&key).submit("hello").await, key));
    }
    let shards = jobs
        .iter()
        .filter_map(|(id, _)| id.split('_').nth(2))
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(shards.len(), 4, "{jobs:?}");
    api.kill().await;

    write_config(&file, 1);
    let api = Causeway::api(&redis.url(), &settings).await;
    let worker = Causeway::worker(&redis.url(), &upstream.url(), &settings).await;
    for call in upstream.calls(jobs.len()).await {
        call.answer("hello to you");
    }
    let client = api.client().await;
    for (id, key) in jobs {
        let client = client.with_key(&key);
        assert_eq!(client.end_of(&id).await["status"], "succeeded");
        let listed = client.get("/v1/jobs").await.ok();
        assert_eq!(listed["data"][0]["id"], *id, "{listed:#}");
    }
    worker.says("former shard").await;
}

/// Both lanes of an idle worker wait for work, but it has room for one call: the job of the second
/// wake-up is handed back unspent.
#[tokio::test]
async fn a_surplus_claim_is_handed_back() {
    let mut upstream = Upstream::held().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let lanes = "[[lane]]\nname = \"default\"\n[[lane]]\nname = \"gpu\"\nmodels = [\"big\"]\n";
    std::fs::write(&file, lanes).expect("the file can be written");
    let file = file.to_str().expect("a path");
    // A forgotten lease would not expire within the test.
    let settings =
        [("CAUSEWAY_CONFIG", file), ("CAUSEWAY_CONCURRENCY", "1"), ("CAUSEWAY_LEASE", "5m")];
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &settings).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &settings).await;
    let client = api.client().await;
    let first = client.submit("hello").await;
    let call = upstream.call().await;
    let mut body = chat("hello again");
    body["model"] = json!("big");
    let second = client.post("/v1/jobs", &json!({ "body": body })).await.id();
    assert!(!upstream.has_call());
    call.answer("hello to you");
    upstream.call().await.answer("and again");
    for id in [first, second] {
        let job = client.end_of(&id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    }
}
