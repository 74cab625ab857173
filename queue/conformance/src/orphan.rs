//! Promises about jobs of callers that may retry.

use std::time::Duration;

use super::stage::{Stage, tenant_id};
use causeway_queue::{JobId, orphan::CallKey};

const TTL: Duration = Duration::from_secs(600);

fn call(tenant: &str, digest: u8) -> CallKey {
    CallKey { tenant: tenant_id(tenant), digest: [digest; 32] }
}

/// Each orphan is taken once, the oldest first, only by equal calls of its tenant.
pub async fn an_orphan_is_taken_once(stage: Stage) {
    let (mine, store) = (call("ann", 1), stage.store());
    let jobs = [(); 3].map(|()| JobId::new(stage.shard.clone()));
    for job in jobs.iter().chain(&jobs) {
        store.put_orphan(&mine, job, TTL).await.unwrap();
    }
    for other in [call("bob", 1), call("ann", 2)] {
        assert_eq!(store.take_orphan(&stage.shard, &other).await.unwrap(), None);
    }
    for job in jobs {
        assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), Some(job));
    }
    assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), None);
}

/// An expired orphan is not taken, and each orphan has its own TTL.
pub async fn an_orphan_is_taken_within_its_time(stage: Stage) {
    let (mine, store) = (call("ann", 1), stage.store());
    let [a, b, c] = [(); 3].map(|()| JobId::new(stage.shard.clone()));
    for (job, ttl) in [(&a, TTL), (&b, 3 * TTL), (&c, 2 * TTL)] {
        store.put_orphan(&mine, job, ttl).await.unwrap();
    }
    stage.pass(TTL);
    assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), Some(c));
    stage.pass(TTL);
    assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), Some(b));
    assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), None);
}

/// A removed orphan is not taken, and a taken one cannot be removed.
pub async fn an_orphan_is_removed_unless_it_was_taken(stage: Stage) {
    let (mine, store) = (call("ann", 1), stage.store());
    let [a, b] = [(); 2].map(|()| JobId::new(stage.shard.clone()));
    for job in [&a, &b] {
        store.put_orphan(&mine, job, TTL).await.unwrap();
    }
    assert!(store.remove_orphan(&mine, &a).await.unwrap());
    assert!(!store.remove_orphan(&mine, &a).await.unwrap());
    assert_eq!(store.take_orphan(&stage.shard, &mine).await.unwrap(), Some(b.clone()));
    assert!(!store.remove_orphan(&mine, &b).await.unwrap());
}
