//! The conformance suite on both backends.

use std::sync::Arc;

use causeway_queue::{
    Policy,
    clock::{ManualClock, Millis},
    conformance::Stage,
    embedded::Embedded,
    redis::RedisStore,
};

use crate::support::redis::RedisServer;

/// Later than any key that was written with the server's own time could expire.
pub(crate) fn clock() -> Arc<ManualClock> {
    let now = jiff::Timestamp::now().as_millisecond();
    Arc::new(ManualClock::new(Millis(u64::try_from(now).unwrap())))
}

pub(crate) fn embedded() -> Stage {
    let clock = clock();
    Stage::new(Arc::new(Embedded::new(Policy::default(), clock.clone())), clock)
}

pub(crate) async fn on(server: &RedisServer) -> Stage {
    let clock = clock();
    let store =
        RedisStore::connect_with_clock(&server.url(), Policy::default(), clock.clone()).await;
    Stage::new(Arc::new(store.unwrap()), clock)
}

mod embedded_keeps_its_promises {
    use std::future::{Ready, ready};

    fn stage() -> Ready<(causeway_queue::conformance::Stage, ())> {
        ready((super::embedded(), ()))
    }

    causeway_queue::promises!(stage);
}

mod redis_keeps_its_promises {
    use crate::support::redis::RedisServer;

    async fn stage() -> (causeway_queue::conformance::Stage, RedisServer) {
        let server = RedisServer::start();
        (super::on(&server).await, server)
    }

    causeway_queue::promises!(stage);
}
