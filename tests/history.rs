//! Random histories: both engines run the same operations. Every answer is compared, and after
//! every step the invariants of both are checked.
//!
//! `CAUSEWAY_HISTORIES` sets the number of histories (default 200); a failure prints the smallest
//! failing history.

mod ops;
mod world;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use self::{
    ops::{Draft, End, Op, op},
    world::World,
};
use crate::support::redis::RedisServer;

async fn live(server: &RedisServer, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    let mut world = World::new(server).await;
    for op in ops {
        world.apply(op).await?;
    }
    world.finish().await
}

#[test]
fn both_engines_run_the_same_histories() {
    #[expect(clippy::disallowed_methods, reason = "how much to test is the caller's choice")]
    let cases = std::env::var("CAUSEWAY_HISTORIES").map_or(200, |n| n.parse().expect("a number"));
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let histories = prop::collection::vec(op(), 1..60);
    let outcome =
        TestRunner::new(config).run(&histories, |ops| runtime.block_on(live(&server, ops)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Covers a case that random histories seldom produce: a job with nothing but its record succeeds
/// after a cancel that came too late for its worker.
#[tokio::test]
async fn a_late_cancel_is_forgotten() {
    let ops = vec![
        Op::Enqueue(vec![Draft::default()]),
        Op::Step(Vec::new(), 1),
        Op::Cancel(0, 0),
        Op::Step(vec![(0, End::Succeed(None))], 0),
    ];
    live(&RedisServer::start(), ops).await.unwrap();
}

/// A read removes an expired conversation. Its turns must not come back with the next message of the session.
#[tokio::test]
async fn an_expired_conversation_keeps_no_turns() {
    let message = || Draft { session: Some(1), remembers: Some(1), ..Draft::default() };
    let ops = vec![
        Op::Enqueue(vec![message()]),
        Op::Step(Vec::new(), 1),
        Op::Step(vec![(0, End::Succeed(None))], 0),
        Op::Pass(60_000),
        Op::Enqueue(vec![message()]),
    ];
    live(&RedisServer::start(), ops).await.unwrap();
}

/// Giving up a job that waited too long is no repair.
#[tokio::test]
async fn giving_up_a_job_is_no_repair() {
    let waited = Op::Pass(60_000);
    let ops = vec![Op::Enqueue(vec![Draft::default()]), waited, Op::Reconcile];
    live(&RedisServer::start(), ops).await.unwrap();
}

/// After one of two attempts of a flow is lost, only the estimate of the other is unsettled.
#[tokio::test]
async fn a_lost_attempt_is_settled() {
    let ops = vec![
        Op::Enqueue(vec![Draft::default(), Draft::default()]),
        Op::Step(Vec::new(), 2),
        Op::Crash(0),
        Op::Pass(8000),
        Op::ExtendLeases,
        Op::Pass(8000),
        Op::Reap,
    ];
    live(&RedisServer::start(), ops).await.unwrap();
}
