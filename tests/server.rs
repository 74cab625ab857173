//! Faults of a Redis server, which the embedded engine cannot have.

mod cluster;
mod damage;
mod failover;

use std::sync::Arc;

use causeway_conformance::{Stage, succeeded, tenant_id};
use causeway_queue::{
    Error, Policy, Status,
    clock::{ManualClock, Millis},
    lease::Settled,
};
use causeway_redis::RedisStore;

use crate::{conformance::on, support::redis::RedisServer};

#[tokio::test]
async fn lost_functions_are_loaded_again() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(stage.job("a")).await;
    server.ask::<()>(&["FUNCTION", "FLUSH"]).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.key.job, id);
}

#[tokio::test]
async fn a_full_server_still_settles_jobs() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(stage.job("a")).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = stage.queue.submit(vec![stage.job("a")]).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("raise maxmemory")),
        "{refused:?}"
    );
    let stats = stage.store().stats(&stage.shard, Some(&tenant_id("a"))).await.unwrap();
    assert_eq!(stats.queued, 1);
    let other = with_another_policy(&server, &stage).await;
    let refused = other.store().reap(&other.shard).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable(why)) if why.contains("raise maxmemory")),
        "{refused:?}"
    );
    let lease = stage.claim_one().await;
    stage.settle(lease, succeeded()).await;
    assert_eq!(stage.status(&id).await, Status::Succeeded);
}

/// All connections end with a server; a read needs no second call.
#[tokio::test]
async fn a_read_survives_a_restart() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stage = on(&server.url()).await;
    let id = stage.accept(stage.job("a")).await;
    for _ in 0..2 {
        stage.see(&id).await;
    }
    server.kill();
    server.restart();
    assert_eq!(stage.store().stats(&stage.shard, None).await.unwrap().queued, 1);
    assert_eq!(stage.status(&id).await, Status::Queued);
}

/// A server that was suspended executes calls after their callers have timed out: jobs that these claimed
/// would wait for their leases to expire.
#[tokio::test]
async fn a_late_step_claims_nothing() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url(), Policy::default()).await.unwrap();
    let stage = Stage::new(Arc::new(store), Arc::new(ManualClock::new(Millis(0))));
    stage.accept(stage.job("a")).await;
    let listed = format!("{:?}", server.ask::<redis::Value>(&["FUNCTION", "LIST"]).await);
    let step = listed.split(['\'', '"']).find(|name| name.ends_with("_step")).expect("a step");
    let prefix = format!("cw:{{{}}}:", stage.shard);
    for (until, claimed) in [("1", 0), ("", 1)] {
        let call = ["FCALL", step, "1", &prefix, "", "1", "15000", until, ""];
        let answer: Vec<redis::Value> = server.ask(&call).await;
        assert_eq!((answer.len() - 4) / 2, claimed, "until {until:?}");
    }
}

/// Returns a stage over the same server with another policy, and so with another function library.
async fn with_another_policy(server: &RedisServer, one: &Stage) -> Stage {
    let policy = Policy { max_stalls: 7, ..Policy::default() };
    let store = RedisStore::connect_with_clock(&server.url(), policy, one.clock.clone()).await;
    Stage::new(Arc::new(store.unwrap()), one.clock.clone())
}

/// Each library has its own Lua tables, and reads the records that the other wrote.
#[tokio::test]
async fn libraries_of_two_policies_share_a_shard() {
    let server = RedisServer::start();
    let one = on(&server.url()).await;
    let other = with_another_policy(&server, &one).await;
    for _ in 0..3 {
        for stage in [&one, &other, &one] {
            stage.accept(stage.job("a")).await;
        }
        let leases = [other.claim_one().await, one.claim_one().await, other.claim_one().await];
        for (lease, stage) in leases.into_iter().zip([&one, &other, &other]) {
            assert_eq!(stage.settle(lease, succeeded()).await, Settled::Done);
        }
        one.assert_sound().await;
        let stats = one.store().stats(&one.shard, Some(&tenant_id("a"))).await.unwrap();
        assert_eq!((stats.queued, stats.running), (0, 0));
    }
}

#[tokio::test]
async fn every_one_of_many_tenants_is_served() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let names: Vec<String> = (0..1500).map(|number| format!("tenant-{number}")).collect();
    for size in [1500, 100] {
        for part in names.chunks(size) {
            let jobs = part.iter().map(|name| stage.job(name)).collect();
            stage.queue.submit(jobs).await.unwrap();
        }
        let mut served = Vec::new();
        let mut ended = Vec::new();
        loop {
            let step = stage.step(ended, 100).await;
            if step.leases.is_empty() {
                break;
            }
            served.extend(step.leases.iter().map(|lease| lease.key.tenant.to_string()));
            ended = step.leases.into_iter().map(|one| one.settle(succeeded(), None)).collect();
        }
        served.sort_unstable();
        let mut all = names.clone();
        all.sort_unstable();
        assert_eq!(served, all);
        stage.assert_sound().await;
    }
}

#[tokio::test]
async fn a_failed_call_is_not_recorded() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    stage.accept(stage.job("a")).await;
    let list = format!("cw:{{{}}}:jobs:a", stage.shard);
    server.ask::<()>(&["RENAME", &list, "kept"]).await;
    server.ask::<()>(&["SET", &list, "no list"]).await;
    let refused = stage.queue.submit(vec![stage.job("a")]).await;
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    server.ask::<()>(&["RENAME", "kept", &list]).await;
    stage.accept(stage.job("a")).await;
    let stats = stage.store().stats(&stage.shard, Some(&tenant_id("a"))).await.unwrap();
    assert_eq!(stats.queued, 2);
    stage.assert_sound().await;
}
