//! The conformance suite on both backends.

use std::sync::Arc;

use causeway_conformance::Stage;
use causeway_embedded::Embedded;
use causeway_queue::{
    Policy,
    clock::{ManualClock, Millis},
};
use causeway_redis::RedisStore;

/// Returns a manual clock that starts at the current time. Redis expires keys by its own clock: with an
/// earlier one, they would expire at once.
pub(crate) fn clock() -> Arc<ManualClock> {
    let now = jiff::Timestamp::now().as_millisecond();
    Arc::new(ManualClock::new(Millis(u64::try_from(now).unwrap())))
}

pub(crate) fn embedded() -> Stage {
    let clock = clock();
    Stage::new(Arc::new(Embedded::new(Policy::default(), clock.clone())), clock)
}

/// Returns a stage over the Redis, or the cluster, at `url`.
pub(crate) async fn on(url: &str) -> Stage {
    let clock = clock();
    let store = RedisStore::connect_with_clock(url, Policy::default(), clock.clone()).await;
    Stage::new(Arc::new(store.unwrap()), clock)
}

mod embedded_keeps_its_promises {
    use std::future::{Ready, ready};

    fn stage() -> Ready<(causeway_conformance::Stage, ())> {
        ready((super::embedded(), ()))
    }

    causeway_conformance::promises!(stage);
}

mod redis_keeps_its_promises {
    use crate::support::redis::RedisServer;

    async fn stage() -> (causeway_conformance::Stage, RedisServer) {
        let server = RedisServer::start();
        (super::on(&server.url()).await, server)
    }

    causeway_conformance::promises!(stage);
}

/// Runs each promise in a lane of its own, so that the lanes are spread over all three masters.
mod a_cluster_keeps_its_promises {
    use std::sync::Arc;

    use causeway_conformance::Stage;
    use causeway_queue::{Backend, LaneName, clock::ManualClock};

    use crate::support::redis::RedisCluster;

    fn stage(store: &Arc<dyn Backend>, clock: &Arc<ManualClock>, promise: &str) -> Stage {
        let mut lane = promise.replace('_', "-");
        lane.truncate(causeway_queue::id::MAX_LANE_BYTES);
        let lane = LaneName::new(&lane).expect("a promise's name");
        Stage::in_lane(Arc::clone(store), Arc::clone(clock), lane)
    }

    causeway_conformance::promises!(stage, together);

    #[tokio::test]
    async fn of_three_masters() {
        let cluster = RedisCluster::start();
        let stage = super::on(&cluster.url()).await;
        all(&stage.backend, &stage.clock).await;
    }
}
