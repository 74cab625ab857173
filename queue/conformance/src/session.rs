//! Promises about sessions and what they remember.

use std::time::Duration;

use super::{
    accept::keyed,
    stage::{Stage, retry_after, session_key, succeeded, tenant_id},
};
use causeway_queue::{
    Accepted, Error, JobId, LaneName, Lease, NewJob, Outcome, RawJson, Shard,
    clock::Clock as _,
    job::State,
    limits::{LaneLimits, TenantLimits},
    session::{Conversation, Memory, ProfileChange, Turn},
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

/// A forgotten conversation does not return with an answer that was under way.
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

/// An imported conversation replaces an expired one only.
pub async fn a_conversation_is_imported_once(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    let imported = async |user: &str| {
        let turn = Turn { user: user.to_owned(), assistant: "yes".to_owned() };
        let offered = Conversation {
            session: session.clone(),
            profile: RawJson::string(user),
            expires_at: stage.clock.now().after(Duration::from_secs(60)),
            turns: vec![turn],
        };
        stage.store().import_conversation(&stage.shard, &ann, &offered).await.unwrap();
        let held = stage.store().conversation(&stage.shard, &ann, &session).await.unwrap();
        held.as_ref() == Some(&offered)
    };
    assert!(imported("first").await);
    stage.pass(Duration::from_secs(1));
    assert!(!imported("second").await);
    stage.pass(Duration::from_secs(60));
    assert!(imported("third").await);
}

/// A change of a profile, or its creation.
fn profile_change(known: Option<&str>, profile: &str) -> ProfileChange {
    let (known, profile) = (known.map(RawJson::string), RawJson::string(profile));
    ProfileChange { known, profile, ttl: Duration::from_secs(60) }
}

/// A profile is changed for a caller that knows it, within its time.
pub async fn a_profile_changes_as_it_is_known(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    let change = async |known: Option<&str>, profile: &str| {
        let change = profile_change(known, profile);
        stage.store().change_profile(&stage.shard, &ann, &session, &change).await.unwrap()
    };
    assert!(!change(Some("one"), "two").await, "there is none");
    assert!(change(None, "one").await);
    assert!(!change(None, "two").await, "there is one");
    assert!(!change(Some("two"), "three").await);
    stage.pass(Duration::from_secs(30));
    assert!(change(Some("one"), "two").await);
    stage.pass(Duration::from_secs(30));
    let found = stage.queue.conversation(&ann, &session).await.unwrap().unwrap();
    assert_eq!((found.profile, found.turns), (RawJson::string("two"), Vec::new()));
    stage.pass(Duration::from_secs(30));
    assert!(!change(Some("two"), "three").await, "it is over");
    assert!(change(None, "one").await);
    assert!(stage.queue.forget(&ann, &session).await.unwrap());
    assert!(!change(Some("one"), "two").await, "it is forgotten");
    stage.assert_sound().await;
}

/// Of turns that are submitted at once one is accepted.
pub async fn one_of_equal_turns_is_taken(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    let created = profile_change(None, "0");
    assert!(stage.queue.change_profile(&ann, &session, &created).await.unwrap());
    for turn in 0..3 {
        let known = stage.queue.profile(&ann, &session).await.unwrap();
        let turns = (0..8).map(|n| {
            let next = profile_change(None, &format!("{turn} {n}"));
            let change = ProfileChange { known: known.clone(), ..next };
            stage.queue.submit_turn(stage.job("ann"), &session, Some(change))
        });
        let results = futures_util::future::join_all(turns).await;
        let accepted = results.iter().filter(|result| matches!(result, Ok(Accepted::New(_))));
        assert_eq!(accepted.count(), 1, "{results:?}");
        let locked = results.iter().filter(|one| matches!(one, Err(Error::ConversationLocked)));
        assert_eq!(locked.count(), 7, "{results:?}");
        assert_eq!(stage.claim(10).await.len(), 1);
    }
}

/// A turn whose job is refused is given back, and one whose job was accepted before is not taken.
pub async fn a_refused_turn_is_given_back(stage: Stage) {
    let (ann, session) = (tenant_id("ann"), session_key("s"));
    let created = profile_change(None, "0");
    assert!(stage.queue.change_profile(&ann, &session, &created).await.unwrap());
    let take = async |job: NewJob, change: Option<ProfileChange>| {
        stage.queue.submit_turn(job, &session, change).await
    };
    let first = keyed(stage.job("ann"), "k", 1);
    let turn = Some(profile_change(Some("0"), "1"));
    assert!(matches!(take(first.clone(), turn.clone()).await, Ok(Accepted::New(_))));
    let again = NewJob { id: stage.job("ann").id, ..first.clone() };
    for change in [turn, Some(profile_change(Some("1"), "2")), None] {
        let replayed = take(again.clone(), change).await.unwrap();
        assert_eq!(replayed, Accepted::Replayed(first.id.clone()));
    }
    let none = TenantLimits { max_queued: Some(0), ..TenantLimits::default() };
    let limits = [(ann.clone(), none)];
    stage.store().set_limits(&stage.shard, &LaneLimits::default(), &limits).await.unwrap();
    let refused = take(stage.job("ann"), Some(profile_change(Some("1"), "2"))).await;
    assert!(matches!(refused, Err(Error::Full { .. })));
    let profile = stage.queue.profile(&ann, &session).await.unwrap();
    assert_eq!(profile, Some(RawJson::string("1")));
    assert!(matches!(take(stage.job("ann"), None).await, Err(Error::ConversationLocked)));
}
