//! Tenants: their keys, and the data that they may see.

use std::path::Path;

use crate::support::{http::Client, process::Causeway, redis::RedisServer, upstream::Upstream};

/// The log line after a changed configuration was applied.
const RELOADED: &str = "was read again";

/// Makes a key as an administrator does; returns it and the line for the configuration.
pub(crate) async fn new_key() -> (String, String) {
    let text = Causeway::command(&["tenant", "key"], &[]).await;
    let line = |part: &str| text.lines().find(|line| line.starts_with(part)).expect(part);
    (line("cw_").to_owned(), line("key_sha256 = ").to_owned())
}

pub(crate) fn tenants(file: &Path, tenants: &[(&str, &str)]) {
    let text: String =
        tenants.iter().map(|(id, rest)| format!("[[tenant]]\nid = \"{id}\"\n{rest}\n")).collect();
    std::fs::write(file, text).expect("the file can be written");
}

async fn refused_key(client: &Client) {
    let error = client.get("/v1/jobs").await.error(401);
    assert_eq!(error["code"], "invalid_api_key");
}

#[tokio::test]
async fn keys_change_while_jobs_run() {
    let mut upstream = Upstream::held().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let (first, first_line) = new_key().await;
    let (second, second_line) = new_key().await;
    let (boss, boss_line) = new_key().await;
    assert_ne!(first, second);
    let boss_line = format!("{boss_line}\nadmin = true");
    tenants(&file, &[("ann", &first_line), ("boss", &boss_line)]);
    let path = file.to_str().expect("a path");
    let arguments =
        ["up", "--bind", "127.0.0.1:0", "--upstream", &upstream.url(), "--config", path];
    let up = Causeway::start(&arguments, &[]).await;
    let keyless = up.client().await;
    let [before, after, admin] = [&first, &second, &boss].map(|key| keyless.with_key(key));

    refused_key(&keyless).await;
    refused_key(&after).await;
    let id = before.submit("hello").await;
    let call = upstream.call().await;
    assert_eq!(admin.job(&id).await["tenant"], "ann");
    assert_eq!(before.get("/v1/lanes").await.error(403)["code"], "not_an_admin");
    assert_eq!(admin.get("/v1/lanes").await.ok()["data"][0]["running"], 1);

    // The changed file is detected without a signal, and the job belongs to ann, not to her key.
    tenants(&file, &[("ann", &format!("{second_line}\nmax_running = 1")), ("boss", &boss_line)]);
    up.says(RELOADED).await;
    refused_key(&before).await;
    assert_eq!(after.job(&id).await["status"], "running");
    let next = after.submit("and then?").await;
    assert_eq!(after.job(&next).await["waiting_for"], "tenant_cap");
    call.answer("well");
    assert_eq!(after.end_of(&id).await["status"], "succeeded");
    upstream.call().await.answer("that is all");
    assert_eq!(after.end_of(&next).await["status"], "succeeded");

    // An invalid configuration changes nothing.
    tenants(&file, &[("ann", "key_sha256 = []")]);
    up.reload();
    up.says("stays in force").await;
    assert_eq!(after.job(&next).await["status"], "succeeded");
    assert!(!up.text().contains(&second), "a key was logged");
}

#[tokio::test]
async fn a_risky_reload_is_reported() {
    let upstream = Upstream::echo().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let path = file.to_str().expect("a path");
    let (_, line) = new_key().await;
    let boss = format!("{line}\nadmin = true");
    let arguments =
        ["up", "--bind", "127.0.0.1:0", "--upstream", &upstream.url(), "--config", path];
    for (before, after, says) in [
        (
            &[("boss", boss.as_str())][..],
            &[("boss", line.as_str())][..],
            "no tenant is an administrator any more",
        ),
        (&[], &[("boss", &boss)], "still serves every caller without a key"),
        (&[("boss", &boss)], &[], "still refuses calls without a key"),
    ] {
        tenants(&file, before);
        let up = Causeway::start(&arguments, &[]).await;
        up.client().await.get("/healthz").await.ok();
        tenants(&file, after);
        up.reload();
        up.says(says).await;
    }
}

#[tokio::test]
async fn a_worker_survives_a_reload() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    let id = client.submit("hello").await;
    let call = upstream.call().await;
    worker.reload();
    worker.says("was read again").await;
    call.answer("hello to you");
    let job = client.end_of(&id).await;
    assert_eq!((&job["status"], &job["stalls"]), (&"succeeded".into(), &0.into()));
}
