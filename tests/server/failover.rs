//! A master that has become a replica, while connections to it stay open.

use std::{future::pending, pin::pin, time::Duration};

use causeway_conformance::{LEASE, Stage};
use causeway_queue::{
    Error,
    lease::{ClaimRequest, Step},
};

use crate::{
    conformance::on,
    support::{eventually, proxy::Proxy, redis::RedisServer},
};

/// Makes a step over the blocking connection of idle workers.
async fn claim_when_woken(stage: &Stage) -> Result<Step, Error> {
    let claim = ClaimRequest { max: 1, lease: LEASE };
    let wait = Duration::from_secs(2);
    stage.store().claim_when_woken(&stage.shard, wait, claim, pin!(pending())).await
}

/// Returns two servers after a handover from the first to the second; a stage with all connections
/// to the first; and the proxy that still leads new connections there. One job runs, and one
/// waits.
async fn handed_over() -> (Stage, Proxy, [RedisServer; 2]) {
    let (former, new) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::to(former.port()).await;
    let stage = on(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    for _ in 0..2 {
        stage.accept(stage.job("a")).await;
    }
    assert_eq!(claim_when_woken(&stage).await.unwrap().leases.len(), 1);
    let subscribed = async || (former.ask::<i64>(&["PUBSUB", "NUMPAT"]).await == 1).then_some(());
    eventually("a subscription", subscribed).await;
    former.hand_over_to(&new).await;
    (stage, proxy, [former, new])
}

#[tokio::test]
async fn one_refused_call_moves_all_connections() {
    let (stage, proxy, [_former, new]) = handed_over().await;
    proxy.turn_to(new.port());
    let refused = stage.queue.submit(vec![stage.job("a")]).await;
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    for _ in 0..3 {
        stage.accept(stage.job("a")).await;
    }
    let step = claim_when_woken(&stage).await.unwrap();
    assert_eq!((step.leases.len(), stage.claim(9).await.len()), (1, 3));
    let subscribed = async || (new.ask::<i64>(&["PUBSUB", "NUMPAT"]).await == 1).then_some(());
    eventually("a subscription", subscribed).await;
    stage.assert_sound().await;
}

#[tokio::test]
async fn one_refused_wait_moves_all_connections() {
    let (stage, proxy, [_former, new]) = handed_over().await;
    proxy.turn_to(new.port());
    let refused = claim_when_woken(&stage).await;
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    stage.accept(stage.job("a")).await;
    assert_eq!(stage.claim(9).await.len(), 2);
}

#[tokio::test]
async fn a_replica_is_not_ready() {
    let (stage, proxy, [_former, new]) = handed_over().await;
    for _ in 0..3 {
        stage.store().ping().await.unwrap_err();
    }
    proxy.turn_to(new.port());
    let ready = async || stage.store().ping().await.ok();
    eventually("readiness", ready).await;
    stage.accept(stage.job("a")).await;
}
