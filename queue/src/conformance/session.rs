//! Promises about sessions and what they remember.

use std::time::Duration;

use super::{
    accept::keyed,
    stage::{Stage, retry_after, session_key, succeeded, tenant_id},
};
use crate::{
    Accepted, JobId, LaneName, Lease, NewJob, Outcome, RawJson, Shard,
    clock::Clock as _,
    job::State,
    session::{Conversation, Memory, Turn},
    state::Status,
    waiting::WaitingFor,
};

/// One at a time, in the order of acceptance; other sessions do not wait.
pub async fn jobs_of_a_session_run_one_at_a_time_in_order(stage: Stage) {
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(stage.accept(stage.in_session("ann", "s")).await);
    }
    let other = stage.accept(stage.in_session("ann", "t")).await;
    let same_name = stage.accept(stage.in_session("bob", "s")).await;
    let State::Queued { position, waiting_for, .. } = stage.see(&mine[1]).await.state else {
        panic!("not queued")
    };
    assert_eq!((position, waiting_for), (None, WaitingFor::Session));
    let mut running = stage.claim(10).await;
    let mut claimed: Vec<_> = running.iter().map(|lease| lease.key.job.clone()).collect();
    claimed.sort();
    assert_eq!(claimed, [mine[0].clone(), other, same_name]);
    for id in &mine {
        let at = running.iter().position(|lease| lease.key.job == *id).expect("its turn");
        let lease = running.swap_remove(at);
        stage.succeed(lease).await;
        running.extend(stage.claim(10).await);
    }
    stage.assert_sound().await;
}

/// In another lane the same name is another session, and the same idempotency key another key.
pub async fn a_session_is_of_one_lane(stage: Stage) {
    let lane = LaneName::new(&format!("{}-b", stage.shard.lane)).unwrap();
    let elsewhere = Shard { lane, index: 0 };
    let there = Stage { shard: elsewhere.clone(), ..stage.clone() };
    let here = keyed(stage.in_session("ann", "s"), "k", 1);
    let other = NewJob { id: JobId::new(elsewhere), ..keyed(here.clone(), "k", 2) };
    let accepted = stage.queue.submit(vec![here.clone(), other.clone()]).await.unwrap();
    assert_eq!(accepted, [Accepted::New(here.id), Accepted::New(other.id)]);
    let both = [stage.claim_one().await, there.claim_one().await];
    assert_eq!(
        both.map(|lease| lease.key.job),
        [accepted[0].id().clone(), accepted[1].id().clone()]
    );
    stage.assert_sound().await;
}

/// The next one moves up when the first is cancelled, also when it has to wait for its time.
pub async fn a_session_goes_on_when_its_first_job_is_cancelled(stage: Stage) {
    let first = stage.accept(stage.in_session("ann", "s")).await;
    let delayed = NewJob { delay: Duration::from_secs(5), ..stage.in_session("ann", "s") };
    let second = stage.accept(delayed).await;
    let third = stage.accept(stage.in_session("ann", "s")).await;
    stage.store().cancel(&tenant_id("ann"), &first).await.unwrap();
    assert!(stage.claim(10).await.is_empty());
    stage.pass(Duration::from_secs(5));
    let lease = stage.claim_one().await;
    assert_eq!(lease.key.job, second);
    assert!(stage.claim(10).await.is_empty());
    stage.succeed(lease).await;
    assert_eq!(stage.claim_one().await.key.job, third);
    stage.assert_sound().await;
}

/// Between two attempts the session belongs to the job that is tried.
pub async fn a_retry_keeps_its_session_waiting(stage: Stage) {
    let first = stage.accept(stage.in_session("ann", "s")).await;
    stage.accept(stage.in_session("ann", "s")).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, retry_after(Duration::from_secs(2), 1)).await;
    assert!(stage.claim(10).await.is_empty());
    stage.pass(Duration::from_secs(2));
    let leases = stage.claim(10).await;
    assert_eq!(leases.iter().map(|lease| &lease.key.job).collect::<Vec<_>>(), [&first]);
}

fn talk(stage: &Stage, tenant: &str, session: &str, turns: u32) -> NewJob {
    remembering(stage.job(tenant), session, turns)
}

/// `job`, as a message of a conversation that remembers so many turns.
pub(super) fn remembering(mut job: NewJob, session: &str, turns: u32) -> NewJob {
    let profile = RawJson::string("in the tower");
    job.spec.memory = Some(Memory { turns, ttl_s: 60, profile });
    job.session = Some(session_key(session));
    job
}

/// The answer to what `user` said.
pub(super) fn said(lease: &Lease, user: &str) -> Outcome {
    let turn = Turn { user: user.to_owned(), assistant: format!("to {}", lease.key.tenant) };
    let Outcome::Succeeded { output, .. } = succeeded() else { unreachable!() };
    Outcome::Succeeded { output, turn: Some(turn) }
}

/// Each session has its own memory: the last turns, until its time is over.
pub async fn a_conversation_remembers_its_turns_and_no_others(stage: Stage) {
    for (tenant, session) in [("ann", "s"), ("ann", "t"), ("bob", "s")] {
        for n in 0..3 {
            stage.accept(talk(&stage, tenant, session, 2)).await;
            let lease = stage.claim_one().await;
            let wanted = (0..n).rev().take(2).rev();
            let wanted: Vec<String> = wanted.map(|n| format!("{tenant} {session} {n}")).collect();
            let heard: Vec<String> = lease.turns.iter().map(|turn| turn.user.clone()).collect();
            assert_eq!(heard, wanted);
            let outcome = said(&lease, &format!("{tenant} {session} {n}"));
            stage.settle(lease, outcome).await;
        }
    }
    let talks = stage.queue.conversations(&tenant_id("ann")).await.unwrap();
    assert_eq!(talks.len(), 2);
    assert!(talks.iter().all(|talk| talk.turns.len() == 2));
    assert_eq!(talks[0].profile, RawJson::string("in the tower"));
    stage.pass(Duration::from_secs(60));
    assert!(stage.queue.conversations(&tenant_id("ann")).await.unwrap().is_empty());
}

/// A conversation that keeps no turns goes on without any, and forgets those that it had.
pub async fn a_conversation_may_keep_nothing(stage: Stage) {
    for (turns, heard) in [(2, 0), (0, 1), (0, 0), (2, 0)] {
        let id = stage.accept(talk(&stage, "ann", "s", turns)).await;
        let lease = stage.claim_one().await;
        assert_eq!(lease.turns.len(), heard);
        let outcome = said(&lease, "hello");
        stage.settle(lease, outcome).await;
        assert_eq!(stage.status(&id).await, Status::Succeeded);
    }
    stage.assert_sound().await;
}

/// What was forgotten does not come back with an answer that was under way.
pub async fn a_conversation_can_be_forgotten(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    stage.accept(talk(&stage, "ann", "s", 5)).await;
    let lease = stage.claim_one().await;
    assert!(stage.queue.conversation(&ann, &session).await.unwrap().is_some());
    assert!(stage.queue.forget(&ann, &session).await.unwrap());
    assert!(!stage.queue.forget(&ann, &session).await.unwrap());
    let outcome = said(&lease, "hello");
    stage.settle(lease, outcome).await;
    assert!(stage.queue.conversation(&ann, &session).await.unwrap().is_none());
    stage.accept(talk(&stage, "ann", "s", 5)).await;
    assert!(stage.claim_one().await.turns.is_empty());
}

/// What is taken over from another shard replaces what is over, and nothing else.
pub async fn a_conversation_is_taken_over_once(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    let taken_over = async |user: &str| {
        let turn = Turn { user: user.to_owned(), assistant: "yes".to_owned() };
        let offered = Conversation {
            session: session.clone(),
            profile: RawJson::string(user),
            expires_at: stage.clock.now().after(Duration::from_secs(60)),
            turns: vec![turn],
        };
        stage.store().adopt(&stage.shard, &ann, &offered).await.unwrap();
        let held = stage.store().conversation(&stage.shard, &ann, &session).await.unwrap();
        held.as_ref() == Some(&offered)
    };
    assert!(taken_over("first").await);
    stage.pass(Duration::from_secs(1));
    assert!(!taken_over("second").await);
    stage.pass(Duration::from_secs(60));
    assert!(taken_over("third").await);
}
