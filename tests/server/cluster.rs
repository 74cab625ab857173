//! A cluster with lost answers and moving slots.

use causeway_conformance::tenant_id;
use causeway_queue::{Error, LaneName, Shard, lease::Settled};

use crate::{
    conformance::on,
    support::{proxy::Proxy, redis::RedisCluster},
};

#[tokio::test]
async fn an_unanswered_call_is_not_repeated() {
    let cluster = RedisCluster::start();
    let prefix = format!("cw:{{{}}}:", Shard { lane: LaneName::default_lane(), index: 0 });
    let master = cluster.master_of(&prefix).await;
    let proxy = Proxy::to(master.port()).await;
    let port = proxy.port().to_string();
    master.ask::<()>(&["CONFIG", "SET", "cluster-announce-port", &port]).await;
    let stage = on(&format!("redis+cluster://127.0.0.1:{port}")).await;
    let first = stage.accept(stage.in_session("a", "s")).await;
    proxy.lose_answer_to("_enqueue");
    let second = stage.in_session("a", "s");
    let ids = [first.key(), second.id.key()];
    let unanswered = stage.queue.submit(vec![second]).await;
    assert!(matches!(&unanswered, Err(Error::Unavailable(_))), "{unanswered:?}");
    assert!(!proxy.has_an_answer_to_lose());
    for line in ["session:a:s", "jobs:a"] {
        let held: Vec<String> =
            master.ask(&["LRANGE", &format!("{prefix}{line}"), "0", "-1"]).await;
        assert_eq!(held, ids, "{line}");
    }
    let stats = stage.store().stats(&stage.shard, Some(&tenant_id("a"))).await.unwrap();
    assert_eq!(stats.queued, 2);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_moving_slot_accepts_nothing() {
    let cluster = RedisCluster::start();
    let stage = on(&cluster.url()).await;
    let first = stage.accept(stage.in_session("a", "s")).await;
    let moving = cluster.start_to_move(&format!("cw:{{{}}}:", stage.shard)).await;
    let refused = stage.queue.submit(vec![stage.in_session("a", "s")]).await;
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    moving.end().await;
    let second = stage.accept(stage.in_session("a", "s")).await;
    for id in [first, second] {
        let lease = stage.claim_one().await;
        assert_eq!(lease.key.job, id);
        assert_eq!(stage.succeed(lease).await, Settled::Done);
    }
    stage.assert_sound().await;
}
