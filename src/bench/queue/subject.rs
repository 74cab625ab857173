//! The store under measurement, and the lane in it that the measurement has for itself.
//!
//! No worker serves a lane of that name, and nobody remembers it: what is made here is nobody's work.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use causeway_queue::{
    Backend, Lane, LaneName, Lease, NewJob, Outcome, Policy, Queue, Settlement, Shard, Spec,
    TenantId,
    clock::SystemClock,
    embedded::Embedded,
    job::{Output, Response},
    json::RawJson,
    lease::ClaimRequest,
    redis::{RedisStore, ServerStats},
};
use tokio_util::sync::CancellationToken;

use crate::bench::Queue as Options;

/// How long the leases of the measurement last: longer than any run.
const LEASE: Duration = Duration::from_secs(600);

/// How long an ended job stays in the store, where the measurement is killed and cannot remove it.
const RETENTION: Duration = Duration::from_secs(60);

/// Bytes of the result that each job is settled with.
const RESULT_BYTES: usize = 300;

/// How long a worker waits for work at once.
const WAIT: Duration = Duration::from_secs(2);

/// What is measured, and with what.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) queue: Queue,
    pub(super) shard: Shard,
    /// Ends the measurement early: the loops finish the calls that are under way, and make no more.
    pub(super) stop: CancellationToken,
    redis: Option<Arc<RedisStore>>,
    tenants: Arc<[TenantId]>,
    body: Bytes,
    result: RawJson,
}

impl Subject {
    /// Opens the store that was named.
    pub(super) async fn open(options: &Options) -> anyhow::Result<Self> {
        let store = options.store.as_str();
        let policy = Policy { retention: RETENTION, ..Policy::default() };
        let (backend, redis): (Arc<dyn Backend>, _) = if store == "embedded" {
            (Arc::new(Embedded::new(policy, Arc::new(SystemClock::default()))), None)
        } else {
            let store = Arc::new(RedisStore::connect(store, policy).await?);
            (Arc::clone(&store) as Arc<dyn Backend>, Some(store))
        };
        // By chance: two processes of two machines may have one number.
        // As long as `default`: keys cost what they cost there.
        let lane = LaneName::new(&format!("b-{:05x}", rand::random::<u32>() >> 12))?;
        let queue = Queue::new(backend, vec![Lane::named(lane)]);
        let shard = queue.shards().pop().context("a queue has a shard")?;
        let tenant = |number| TenantId::new(&format!("tenant-{number}"));
        let tenants: Result<_, _> = (0..options.tenants).map(tenant).collect();
        let text = "x".repeat(usize::try_from(options.payload)?.saturating_sub(2));
        let body = Bytes::from(format!("\"{text}\""));
        let result = RawJson::string(&"y".repeat(RESULT_BYTES - 2));
        let stop = CancellationToken::new();
        Ok(Self { queue, shard, stop, redis, tenants: tenants?, body, result })
    }

    /// What the server counts of itself; `None` for the embedded engine.
    pub(super) async fn stats(&self) -> anyhow::Result<Option<ServerStats>> {
        Ok(match &self.redis {
            Some(store) => Some(store.server_stats().await?),
            None => None,
        })
    }

    /// Removes all that was made. To be called when no call is under way any more.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        match &self.redis {
            Some(store) => {
                let lane = &self.shard.lane;
                let removed = store.erase(&self.shard).await;
                removed.with_context(|| format!("what lane {lane} holds could not be removed"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn job(&self, number: u32) -> NewJob {
        let tenant = self.tenants[number as usize % self.tenants.len()].clone();
        let spec = Spec { url: "/v1/chat/completions".to_owned(), ..Spec::default() };
        self.queue.draft(tenant, spec, self.body.clone(), Some(100))
    }

    /// How every job ends.
    pub(super) fn succeeded(&self) -> Outcome {
        let response = Some(Response { status_code: 200, body: self.result.clone() });
        Outcome::Succeeded { output: Output { response, ..Output::default() }, turn: None }
    }

    pub(super) async fn step(
        &self,
        mut settlements: Vec<Settlement>,
        max: usize,
    ) -> anyhow::Result<Vec<Lease>> {
        let claim = ClaimRequest { max, lease: LEASE };
        Ok(self.queue.backend().step(&self.shard, &mut settlements, claim).await?.leases)
    }

    /// Waits for work as a worker does that has nothing to do.
    pub(super) async fn next(&self) -> anyhow::Result<Vec<Lease>> {
        let claim = ClaimRequest { max: 1, lease: LEASE };
        let stop = std::pin::pin!(self.stop.cancelled());
        let backend = self.queue.backend();
        Ok(backend.claim_when_woken(&self.shard, WAIT, claim, stop).await?.leases)
    }
}
