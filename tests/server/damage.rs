//! Jobs of which a server has lost or damaged a part.

use std::{future::pending, pin::pin, time::Duration};

use causeway_queue::{
    JobId, NewJob, RawJson, Status,
    conformance::{LEASE, Stage},
    job::State,
    lease::{ClaimRequest, Settled},
    session::Memory,
};

use crate::{conformance::on, support::redis::RedisServer};

/// A job whose body has a key of its own.
fn large(stage: &Stage) -> NewJob {
    NewJob { body: vec![b' '; 10_000].into(), ..stage.job("a") }
}

/// Loses the body of `job`, as a server does that evicts.
async fn lose_body(server: &RedisServer, job: &JobId) {
    server.ask::<()>(&["DEL", &format!("cw:{{{}}}:body:{}", job.shard(), job.key())]).await;
}

async fn error_of(stage: &Stage, id: &JobId) -> (Status, String) {
    let job = stage.see(id).await;
    let State::Ended { output: Some(output), .. } = &job.state else { panic!("{job:?}") };
    (job.status(), output.error.as_ref().unwrap().code.clone())
}

#[tokio::test]
async fn a_job_whose_body_is_lost_fails_and_the_others_run() {
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
async fn a_job_whose_body_is_lost_fails_when_a_wake_up_brings_it() {
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

/// Damages what `job` asks of its upstream: it begins behind the header, the tenant `a` and the session `s`.
async fn damage(server: &RedisServer, job: &JobId) {
    let key = format!("cw:{{{}}}:job:{}", job.shard(), job.key());
    let place = (72 + "a".len() + "s".len()).to_string();
    assert_eq!(server.ask::<String>(&["GETRANGE", &key, &place, &place]).await, "{");
    server.ask::<()>(&["SETRANGE", &key, &place, "!"]).await;
}

#[tokio::test]
async fn a_job_whose_record_is_damaged_fails_and_the_others_run() {
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
async fn a_job_whose_conversation_is_damaged_fails_and_the_others_run() {
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
async fn jobs_whose_bodies_cannot_be_read_are_given_back() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    stage.accept(large(&stage)).await;
    stage.accept(stage.job("a")).await;
    let but_bodies = ["resetkeys", "~cw:{*}:", "~cw:{*}:[^b]*"];
    server.ask::<()>(&[&["ACL", "SETUSER", "default"], &but_bodies[..]].concat()).await;
    let claim = ClaimRequest { max: 2, lease: LEASE };
    let mut settlements = Vec::new();
    stage.store().step(&stage.shard, &mut settlements, claim).await.unwrap_err();
    server.ask::<()>(&["ACL", "SETUSER", "default", "allkeys"]).await;
    let step = stage.step(settlements, 2).await;
    let attempts: Vec<u32> = step.leases.iter().map(|lease| lease.attempt).collect();
    assert_eq!(attempts, [1, 1], "{step:?}");
}
