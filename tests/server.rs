//! What can befall a Redis server, and the embedded engine never.

use causeway_queue::{
    Error, Status,
    conformance::{succeeded, tenant_id},
};

use crate::{conformance::on, support::redis::RedisServer};

async fn tell(server: &RedisServer, words: &[&str]) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn functions_that_it_has_lost_are_loaded_again() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(stage.job("a")).await;
    tell(&server, &["FUNCTION", "FLUSH"]).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.key.job, id);
}

#[tokio::test]
async fn a_full_one_takes_no_new_work_and_finishes_what_it_has() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(stage.job("a")).await;
    tell(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = stage.queue.submit(vec![stage.job("a")]).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("raise maxmemory")),
        "{refused:?}"
    );
    let stats = stage.store().stats(&stage.shard, Some(&tenant_id("a"))).await.unwrap();
    assert_eq!(stats.queued, 1);
    let lease = stage.claim_one().await;
    stage.settle(lease, succeeded()).await;
    assert_eq!(stage.status(&id).await, Status::Succeeded);
}
