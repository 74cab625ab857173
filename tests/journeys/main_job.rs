//! Many concurrent users; each gets an answer.

use tokio::task::JoinSet;

use crate::support::{
    process::Causeway,
    redis::RedisServer,
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    ten_users_are_answered_at_once;
}

async fn ten_users_are_answered_at_once(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let mut users = JoinSet::new();
    for number in 0..10 {
        let client = system.clients[number % 2].clone();
        users.spawn(async move {
            let said = format!("hello from {number}");
            (said.clone(), client.chat(&format!("user-{number}"), &said).await.ok())
        });
    }
    for call in upstream.calls(10).await {
        let text = format!("answer to {}", call.prompt());
        call.answer(&text);
    }
    for (said, reply) in users.join_all().await {
        assert_eq!(reply["response"], format!("answer to {said}"));
    }
    assert_eq!(upstream.seen().len(), 10);
}

#[tokio::test]
async fn two_workers_share_the_load() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let settings = &[("CAUSEWAY_CONCURRENCY", "2")];
    let _one = Causeway::worker(&redis.url(), &upstream.url(), settings).await;
    let _other = Causeway::worker(&redis.url(), &upstream.url(), settings).await;
    let client = api.client().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(client.submit(&format!("job {number}")).await);
    }
    // Four calls are more than one worker may run; the fifth job waits for a permit.
    let calls = upstream.calls(4).await;
    assert!(!upstream.has_call());
    for call in calls {
        call.answer("done");
    }
    upstream.call().await.answer("done");
    for id in ids {
        assert_eq!(client.end_of(&id).await["status"], "succeeded");
    }
}
