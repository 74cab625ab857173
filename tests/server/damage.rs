//! Jobs with lost or damaged data.

use std::{future::pending, pin::pin, time::Duration};

use causeway_conformance::{LEASE, Stage, tenant_id};
use causeway_queue::{
    JobId, NewJob, RawJson, Status,
    job::State,
    lease::{ClaimRequest, Settled},
    session::Memory,
};

use crate::{
    conformance::on,
    support::{proxy::Proxy, redis::RedisServer},
};

/// Returns a job with a body under a key of its own.
fn large(stage: &Stage) -> NewJob {
    NewJob { body: vec![b' '; 10_000].into(), ..stage.job("a") }
}

/// Deletes the body of `job`, as an evicting server does.
async fn lose_body(server: &RedisServer, job: &JobId) {
    server.ask::<()>(&["DEL", &format!("cw:{{{}}}:body:{}", job.shard(), job.key())]).await;
}

async fn error_of(stage: &Stage, id: &JobId) -> (Status, String) {
    let job = stage.see(id).await;
    let State::Ended { output: Some(output), .. } = &job.state else { panic!("{job:?}") };
    (job.status(), output.error.as_ref().unwrap().code.clone())
}

#[tokio::test]
async fn a_job_without_its_body_fails() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let (lost, other) = (stage.accept(large(&stage)).await, stage.accept(large(&stage)).await);
    lose_body(&server, &lost).await;
    let claim = ClaimRequest { max: 2, lease: LEASE };
    let mut settlements = Vec::new();
    let step = stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap();
    let [lease] = &step.leases[..] else { panic!("not one lease: {step:?}") };
    assert_eq!((&lease.key.job, lease.body.len()), (&other, 10_000));
    stage.step(settlements, 0).await;
    assert_eq!(error_of(&stage, &lost).await, (Status::Failed, "body_lost".to_owned()));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_woken_job_without_its_body_fails() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let lost = stage.accept(large(&stage)).await;
    lose_body(&server, &lost).await;
    let claim = ClaimRequest { max: 1, lease: LEASE };
    let wait = Duration::from_secs(2);
    let store = stage.store();
    let step = store.claim_when_woken(&stage.shard, wait, claim, pin!(pending())).await.unwrap();
    assert!(step.leases.is_empty(), "{step:?}");
    assert_eq!(error_of(&stage, &lost).await, (Status::Failed, "body_lost".to_owned()));
}

/// Damages the request of `job`, which starts after the header, the tenant `a` and the session `s`.
async fn damage(server: &RedisServer, job: &JobId) {
    let key = format!("cw:{{{}}}:job:{}", job.shard(), job.key());
    let place = (72 + "a".len() + "s".len()).to_string();
    assert_eq!(server.ask::<String>(&["GETRANGE", &key, &place, &place]).await, "{");
    server.ask::<()>(&["SETRANGE", &key, &place, "!"]).await;
}

#[tokio::test]
async fn a_job_with_a_damaged_record_fails() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let other = &stage.accept(large(&stage)).await;
    let damaged = &stage.accept(stage.in_session("a", "s")).await;
    let next = &stage.accept(stage.in_session("a", "s")).await;
    damage(&server, damaged).await;
    let claim = ClaimRequest { max: 9, lease: LEASE };
    let mut settlements = Vec::new();
    let step = stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap();
    let [lease] = &step.leases[..] else { panic!("not one lease: {step:?}") };
    assert_eq!((&lease.key.job, lease.body.len()), (other, 10_000));
    let step = stage.step(settlements, 9).await;
    assert_eq!(step.settled, [Settled::Done]);
    assert_eq!(step.leases.iter().map(|one| &one.key.job).collect::<Vec<_>>(), [next]);
    assert_eq!(error_of(&stage, damaged).await, (Status::Failed, "record_damaged".to_owned()));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_job_with_a_damaged_conversation_fails() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let remembering = |session: &str| {
        let mut job = stage.in_session("a", session);
        job.spec.memory =
            Some(Memory { turns: 5, ttl_s: 3600, profile: RawJson::string("in the tower") });
        job
    };
    let damaged = stage.accept(remembering("s")).await;
    let other = stage.accept(remembering("t")).await;
    let turns = |session| format!("cw:{{{}}}:turns:a:{session}", stage.shard);
    server.ask::<()>(&["RPUSH", &turns("s"), "no turn"]).await;
    server.ask::<()>(&["RPUSH", &turns("t"), r#"{"user":"hello","assistant":"hi"}"#]).await;
    let claim = ClaimRequest { max: 9, lease: LEASE };
    let mut settlements = Vec::new();
    let step = stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap();
    let [lease] = &step.leases[..] else { panic!("not one lease: {step:?}") };
    assert_eq!((&lease.key.job, lease.turns.len()), (&other, 1));
    stage.step(settlements, 0).await;
    assert_eq!(error_of(&stage, &damaged).await, (Status::Failed, "record_damaged".to_owned()));
}

#[tokio::test]
async fn jobs_with_unreadable_bodies_are_handed_back() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let large = stage.accept(large(&stage)).await;
    let small = stage.accept(stage.job("a")).await;
    let but_bodies = ["resetkeys", "~cw:{*}:", "~cw:{*}:[^b]*"];
    server.ask::<()>(&[&["ACL", "SETUSER", "default"], &but_bodies[..]].concat()).await;
    let claim = ClaimRequest { max: 2, lease: LEASE };
    let mut settlements = Vec::new();
    let step = stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap();
    let [lease] = &step.leases[..] else { panic!("not one lease: {step:?}") };
    assert_eq!(lease.key.job, small);
    // A claim without any runnable job is an error, so that its caller pauses before the next
    // claim.
    stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap_err();
    server.ask::<()>(&["ACL", "SETUSER", "default", "allkeys"]).await;
    let step = stage.step(settlements, 2).await;
    let [lease] = &step.leases[..] else { panic!("not one lease: {step:?}") };
    assert_eq!((&lease.key.job, lease.attempt), (&large, 1));
}

/// Three bodies of 3 MiB do not fit into one answer; the second body is lost twice.
#[tokio::test]
async fn received_bodies_are_kept() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let stage = on(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let mut ids = Vec::new();
    for letter in [b'1', b'2', b'3'] {
        let body = vec![letter; 3 << 20].into();
        let spec = stage.job("a").spec;
        ids.push(stage.accept(stage.queue.draft(tenant_id("a"), spec, body, Some(10))).await);
    }
    for _ in 0..2 {
        proxy.lose_answer_to(format!("body:{}", ids[1].key()));
    }
    let claim = ClaimRequest { max: 3, lease: LEASE };
    let mut settlements = Vec::new();
    let step = stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap();
    assert!(!proxy.has_an_answer_to_lose());
    let mut leases = step.leases;
    assert_eq!((leases.len(), settlements.len()), (1, 2));
    leases.extend(stage.step(settlements, 3).await.leases);
    for ((lease, id), letter) in leases.iter().zip(&ids).zip([b'1', b'2', b'3']) {
        assert_eq!((&lease.key.job, lease.attempt), (id, 1));
        assert_eq!((lease.body.len(), lease.body[0]), (3 << 20, letter));
    }
    assert_eq!(leases.len(), 3);
    stage.assert_sound().await;
}
