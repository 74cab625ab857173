//! Tenants that are added, limited and revoked while processes run.

use crate::support::{
    eventually, http::Client, process::Causeway, redis::RedisServer, upstream::Upstream,
};

/// Runs `causeway tenant` against the server of `client`, with a key; returns its output.
async fn tenant(client: &Client, arguments: &[&str], key: Option<&str>) -> String {
    let server = ["--url", client.base()];
    let with_key = if key.is_some() { &["--key-env", "KEY"][..] } else { &[] };
    let arguments = [&["tenant"], arguments, &server, with_key].concat();
    Causeway::command(&arguments, &[("KEY", key.unwrap_or_default())]).await
}

/// Returns the key in the output of a command.
fn key(text: &str) -> String {
    text.lines().find(|line| line.starts_with("cw_")).expect("a key").to_owned()
}

/// Waits until a call with the key of `client` gets this status.
async fn answers(client: &Client, status: u16) {
    eventually(&format!("a {status}"), async || {
        (client.get("/v1/queue").await.status == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tenant_changes_reach_all_processes() {
    let upstream = Upstream::echo().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let mut other = Causeway::api(&redis.url(), &[]).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let [here, there] = [api.client().await, other.client().await];
    let before = there.submit("hello").await;

    let added = tenant(&here, &["add", "ops", "--admin"], None).await;
    assert!(added.contains("From now on every call needs a key"), "{added}");
    let ops = key(&added);
    answers(&there, 401).await;
    answers(&there.with_key(&ops), 200).await;
    there.with_key(&ops).get(&format!("/v1/jobs/{before}")).await.ok();

    let add = ["add", "ann", "--max-running", "3", "--expires", "1d"];
    let ann = key(&tenant(&here, &add, Some(&ops)).await);
    let (ann_here, ann_there) = (here.with_key(&ann), there.with_key(&ann));
    answers(&ann_there, 200).await;
    ann_there.get(&format!("/v1/jobs/{before}")).await.error(404);
    let job = ann_there.submit("hello").await;
    assert_eq!(ann_here.end_of(&job).await["status"], "succeeded");
    let lane = ann_here.get("/v1/queue").await.ok()["lanes"][0].clone();
    assert_eq!(lane["tenant_limits"]["max_running"], 3);

    let list = ["jobs", "list", "--all-tenants", "--url", here.base(), "--key-env", "KEY"];
    let listed = Causeway::command(&list, &[("KEY", &ops)]).await;
    let own_of_ops = here.with_key(&ops).submit("hello").await;
    assert!(listed.contains(&job) && listed.contains("TENANT"), "{listed}");
    let list = [&list[..], &["--limit", "1"]].concat();
    let listed = Causeway::command(&list, &[("KEY", &ops)]).await;
    assert!(listed.contains(&own_of_ops) && !listed.contains(&format!("{job} ")), "{listed}");
    assert!(listed.contains("there are more: raise --limit"), "{listed}");

    let limited = tenant(&there, &["limit", "ann", "--max-running", "none"], Some(&ops)).await;
    assert!(!limited.contains("3 run"), "{limited}");
    let rotated = key(&tenant(&there, &["rotate", "ann"], Some(&ops)).await);
    answers(&ann_here, 401).await;
    answers(&here.with_key(&rotated), 200).await;
    let old = ops;
    let ops = key(&tenant(&here, &["rotate", "ops"], Some(&old)).await);
    answers(&there.with_key(&old), 401).await;
    answers(&there.with_key(&ops), 200).await;
    let listed = tenant(&here, &["list"], Some(&ops)).await;
    assert!(listed.contains("ops") && listed.contains("ann"), "{listed}");

    // The job still belongs to ann, and a new process knows the stored tenants.
    other.kill().await;
    let next = Causeway::api(&redis.url(), &[]).await;
    let rotated = next.client().await.with_key(&rotated);
    assert_eq!(rotated.job(&job).await["status"], "succeeded");
    tenant(&here, &["revoke", "ann"], Some(&ops)).await;
    answers(&rotated, 401).await;
    for act in ["add_tenant", "limit_tenant", "rotate_key", "revoke_tenant"] {
        let logs = format!("{}{}", api.text(), other.text());
        assert!(
            logs.lines().any(|line| line.contains("an administrator acted") && line.contains(act)),
            "{logs}"
        );
        assert!(!logs.contains(&ops), "a key was logged");
    }
}

#[tokio::test]
async fn the_first_tenant_closes_an_embedded_server() {
    let upstream = Upstream::echo().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let client = up.client().await;
    let mut refused = Causeway::launch(&["tenant", "add", "ann", "--url", client.base()], &[]);
    assert!(!refused.ended().await.success());
    assert!(refused.text().contains("--admin"), "{}", refused.text());
    client.submit("still open").await;
    let ops = key(&tenant(&client, &["add", "ops", "--admin"], None).await);
    client.get("/v1/jobs").await.error(401);
    let ops = client.with_key(&ops);
    let job = ops.submit("hello").await;
    assert_eq!(ops.end_of(&job).await["status"], "succeeded");
}
