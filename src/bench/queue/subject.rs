//! The store under measurement, and the lane of the measurement.
//!
//! No worker serves a lane of that name and no process registers it, so the jobs of the measurement
//! stay with its own loops.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use causeway_embedded::Embedded;
use causeway_queue::{
    Backend, Lane, LaneName, Lease, NewJob, Outcome, Policy, Queue, Settlement, Shard, Spec,
    TenantId,
    clock::SystemClock,
    job::{Output, Response},
    json::RawJson,
    lease::ClaimRequest,
};
use causeway_redis::{RedisStore, ServerStats};
use tokio_util::sync::CancellationToken;

use crate::bench::args::QueueBench as Options;

/// The duration of the leases: longer than any measurement, so that none expires.
const LEASE: Duration = Duration::from_secs(600);

/// The retention of ended jobs, which bounds the remains of a killed measurement.
const RETENTION: Duration = Duration::from_secs(60);

/// The size of each job's result, in bytes.
const RESULT_BYTES: usize = 300;

/// The longest wait of an idle worker in one call.
const WAIT: Duration = Duration::from_secs(2);

/// The store under measurement, with the data of its jobs.
#[derive(Clone)]
pub(super) struct BenchSubject {
    pub(super) queue: Queue,
    pub(super) shard: Shard,
    /// Cancels the measurement: the loops finish their current calls and make no more.
    pub(super) stop: CancellationToken,
    redis: Option<Arc<RedisStore>>,
    tenants: Arc<[TenantId]>,
    body: Bytes,
    result: RawJson,
}

impl BenchSubject {
    /// Opens the store that `options` names.
    pub(super) async fn open(options: &Options) -> anyhow::Result<Self> {
        let store = options.store.as_str();
        let policy = Policy { retention: RETENTION, ..Policy::default() };
        let (backend, redis): (Arc<dyn Backend>, _) = if store == "embedded" {
            (Arc::new(Embedded::new(policy, Arc::new(SystemClock::default()))), None)
        } else {
            let store = Arc::new(RedisStore::connect(store, policy).await?);
            (Arc::clone(&store) as Arc<dyn Backend>, Some(store))
        };
        // Random, because processes on two machines may share a process id. As long as `default`,
        // so that keys have their usual size.
        let lane = LaneName::new(&format!("b-{:05x}", rand::random::<u32>() >> 12))?;
        let queue = Queue::new(backend, vec![Lane::named(lane)]);
        let shard = queue.shards().pop().context("a queue has a shard")?;
        let tenant = |number| TenantId::new(&format!("tenant-{number}"));
        let tenants: Result<_, _> = (0..options.tenants).map(tenant).collect();
        // Two bytes are the quotes of the JSON text.
        let text = "x".repeat(usize::try_from(options.payload)?.saturating_sub(2));
        let body = Bytes::from(format!("\"{text}\""));
        let result = RawJson::string(&"y".repeat(RESULT_BYTES - 2));
        let stop = CancellationToken::new();
        Ok(Self { queue, shard, stop, redis, tenants: tenants?, body, result })
    }

    /// Returns the server's own counters; `None` for the embedded engine.
    pub(super) async fn stats(&self) -> anyhow::Result<Option<ServerStats>> {
        Ok(match &self.redis {
            Some(store) => Some(store.server_stats().await?),
            None => None,
        })
    }

    /// Removes all keys of the measurement. No call may be under way.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        match &self.redis {
            Some(store) => {
                let lane = &self.shard.lane;
                let removed = store.erase(&self.shard).await;
                removed.with_context(|| format!("cannot remove the keys of lane {lane}"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn job(&self, number: u32) -> NewJob {
        let tenant = self.tenants[number as usize % self.tenants.len()].clone();
        let spec = Spec { url: "/v1/chat/completions".to_owned(), ..Spec::default() };
        self.queue.draft(tenant, spec, self.body.clone(), Some(100))
    }

    /// The outcome of every job.
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
        Ok(self.queue.transitions().step(&self.shard, &mut settlements, claim).await?.leases)
    }

    /// Waits for work, as an idle worker does.
    pub(super) async fn next(&self) -> anyhow::Result<Vec<Lease>> {
        let claim = ClaimRequest { max: 1, lease: LEASE };
        let stop = std::pin::pin!(self.stop.cancelled());
        let transitions = self.queue.transitions();
        Ok(transitions.claim_when_woken(&self.shard, WAIT, claim, stop).await?.leases)
    }
}
