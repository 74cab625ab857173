//! Stores that were damaged by a bug or by hand: other jobs still run, counts are repaired, and
//! each repair is reported.

use std::sync::Arc;

use causeway_conformance::{Stage, tenant_id};
use causeway_embedded::Embedded;
use causeway_queue::{Policy, backend::Repairs};

use crate::{
    conformance::{clock, on},
    support::redis::RedisServer,
};

fn key(stage: &Stage, name: &str) -> String {
    format!("cw:{{{}}}:{name}", stage.shard)
}

async fn reconcile(stage: &Stage) -> Repairs {
    stage.store().reconcile(&stage.shard).await.unwrap()
}

#[tokio::test]
async fn each_repair_is_reported_once() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    for tenant in ["ann", "ann", "ann", "bob"] {
        stage.accept(stage.job(tenant)).await;
    }
    stage.store().pause(&stage.shard, Some(&tenant_id("bob")), true).await.unwrap();
    stage.claim_one().await;
    for set in ["leases", "ready:1:ann", "active"] {
        let set = key(&stage, set);
        let removed: i64 = server.ask(&["ZREMRANGEBYRANK", &set, "0", "0"]).await;
        assert_eq!(removed, 1, "{set}");
    }
    let added: i64 = server.ask(&["ZADD", &key(&stage, "active"), "0", "1:bob"]).await;
    assert_eq!(added, 1);

    // Lane and tenant count the lost lease; ann's flow is missing among the active ones, and bob's
    // is one too many.
    assert_eq!(reconcile(&stage).await, Repairs { running: 2, queued: 1, flows: 2 });
    assert_eq!(reconcile(&stage).await, Repairs::default());
    let of = async |tenant: Option<&str>| {
        let tenant = tenant.map(tenant_id);
        stage.store().stats(&stage.shard, tenant.as_ref()).await.unwrap().running
    };
    assert_eq!((of(None).await, of(Some("ann")).await), (0, 0));
    let leases = stage.claim(10).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].key.tenant, tenant_id("ann"));
}

#[tokio::test]
async fn the_embedded_engine_repairs_its_counts_too() {
    let clock = clock();
    let store = Arc::new(Embedded::new(Policy::default(), clock.clone()));
    let stage = Stage::new(store.clone(), clock);
    for tenant in ["ann", "bob"] {
        stage.accept(stage.job(tenant)).await;
    }
    stage.claim_one().await;
    store.miscount(&stage.shard);
    assert_eq!(reconcile(&stage).await, Repairs { running: 3, queued: 0, flows: 0 });
    assert_eq!(reconcile(&stage).await, Repairs::default());
    assert_eq!(store.audit(&stage.shard).faults, [""; 0]);
}

#[tokio::test]
async fn a_session_skips_a_missing_job() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(stage.accept(stage.in_session("ann", "s")).await);
    }
    for gone in &ids[1..3] {
        let deleted: i64 = server.ask(&["DEL", &key(&stage, &format!("job:{}", gone.key()))]).await;
        assert_eq!(deleted, 1);
    }
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    assert_eq!(stage.claim_one().await.key.job, ids[3]);
}

/// Neither a missing record nor an excess count stops a flow or keeps a worker busy.
#[tokio::test]
async fn a_flow_skips_a_missing_job() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(stage.accept(stage.job("ann")).await);
    }
    server.ask::<()>(&["DEL", &key(&stage, &format!("job:{}", ids[0].key()))]).await;
    server.ask::<()>(&["ZREM", &key(&stage, "ready:1:ann"), &ids[3].key()]).await;
    let leases = stage.claim(10).await;
    let started: Vec<_> = leases.iter().map(|lease| &lease.key.job).collect();
    assert_eq!(started, [&ids[1], &ids[2]]);
    assert!(!server.ask::<bool>(&["EXISTS", &key(&stage, "active")]).await);
    stage.assert_sound().await;
}
