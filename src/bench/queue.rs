//! `causeway bench queue`: how fast jobs go through the engine, and what they cost the store.
//!
//! Three phases: enqueue all, drain all, then one job at a time to an idle worker for the pick-up
//! latency. Redis's own counters are read around the first two.

use std::{
    fmt,
    future::pending,
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use causeway_queue::{
    Backend, NewJob, Outcome, Policy, Queue, Settlement, Shard, Spec, TenantId,
    clock::SystemClock,
    embedded::Embedded,
    job::{Output, Response},
    json::RawJson,
    lease::ClaimRequest,
    redis::{RedisStore, ServerStats},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use super::{Queue as Options, percentile::percentile};

/// How many jobs the pick-up latency is measured with.
const PICKUPS: usize = 1000;

/// How long the leases of the measurement last: longer than any run.
const LEASE: Duration = Duration::from_secs(600);

/// How long the measured jobs stay in the store.
const RETENTION: Duration = Duration::from_secs(60);

/// Bytes of the result that each job is settled with.
const RESULT_BYTES: usize = 300;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// The store, in words.
    store: String,
    jobs: u32,
    enqueued_per_s: f64,
    drained_per_s: f64,
    /// `None` for the embedded engine, as the next three.
    redis_commands_per_job: Option<f64>,
    redis_calls_per_job: Option<f64>,
    redis_cpu_us_per_job: Option<f64>,
    /// Of these, what enqueuing took; the rest is running.
    redis_cpu_us_per_enqueue: Option<f64>,
    redis_bytes_per_queued_job: Option<f64>,
    pickup_p50_ms: f64,
    pickup_p99_ms: f64,
}

/// The store under measurement.
#[derive(Clone)]
struct Subject {
    queue: Queue,
    shard: Shard,
    redis: Option<Arc<RedisStore>>,
    tenants: Arc<[TenantId]>,
    body: Bytes,
    result: RawJson,
}

impl Subject {
    async fn open(options: &Options) -> anyhow::Result<Self> {
        let store = options.store.as_str();
        let policy = Policy { retention: RETENTION, ..Policy::default() };
        let (backend, redis): (Arc<dyn Backend>, _) = if store == "embedded" {
            (Arc::new(Embedded::new(policy, Arc::new(SystemClock::default()))), None)
        } else {
            let store = Arc::new(RedisStore::connect(store, policy).await?);
            (Arc::clone(&store) as Arc<dyn Backend>, Some(store))
        };
        let queue = Queue::new(backend, Vec::new());
        let shard = queue.shards().pop().context("a queue has a shard")?;
        let tenant = |number| TenantId::new(&format!("tenant-{number}"));
        let tenants: Result<_, _> = (0..options.tenants).map(tenant).collect();
        let text = "x".repeat(usize::try_from(options.payload)?.saturating_sub(2));
        let body = Bytes::from(format!("\"{text}\""));
        let result = RawJson::string(&"y".repeat(RESULT_BYTES - 2));
        Ok(Self { queue, shard, redis, tenants: tenants?, body, result })
    }

    async fn stats(&self) -> anyhow::Result<Option<ServerStats>> {
        Ok(match &self.redis {
            Some(store) => Some(store.server_stats().await?),
            None => None,
        })
    }

    fn job(&self, number: u32) -> NewJob {
        let tenant = self.tenants[number as usize % self.tenants.len()].clone();
        let spec = Spec { url: "/v1/chat/completions".to_owned(), ..Spec::default() };
        self.queue.draft(tenant, spec, self.body.clone(), Some(100))
    }

    /// How every job ends.
    fn succeeded(&self) -> Outcome {
        let response = Some(Response { status_code: 200, body: self.result.clone() });
        Outcome::Succeeded { output: Output { response, ..Output::default() }, turn: None }
    }

    async fn step(
        &self,
        mut settlements: Vec<Settlement>,
        max: usize,
    ) -> anyhow::Result<Vec<causeway_queue::Lease>> {
        let claim = ClaimRequest { max, lease: LEASE };
        Ok(self.queue.backend().step(&self.shard, &mut settlements, claim).await?.leases)
    }

    /// Waits for work as a worker does that has nothing to do.
    async fn next(&self) -> anyhow::Result<Vec<causeway_queue::Lease>> {
        let claim = ClaimRequest { max: 1, lease: LEASE };
        let (at_most, never) = (Duration::from_secs(2), pin!(pending()));
        let backend = self.queue.backend();
        Ok(backend.claim_when_woken(&self.shard, at_most, claim, never).await?.leases)
    }
}

/// Measures and prints.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let subject = Subject::open(&options).await?;
    let idle = subject.queue.backend().stats(&subject.shard, None).await?;
    anyhow::ensure!(
        idle.queued + idle.running == 0,
        "{} holds {} jobs already; measure on an empty store",
        subject.queue.backend().describe(),
        idle.queued + idle.running
    );
    let figures = measure(&subject, &options).await?;
    let mut out = io::stdout();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&figures)?)?;
    } else {
        write!(out, "{figures}")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(subject: &Subject, options: &Options) -> anyhow::Result<Figures> {
    let bar = progress(u64::from(options.jobs) * 2);
    let before = subject.stats().await?;
    let enqueue_s = in_parallel(subject, options, &bar, enqueue).await?;
    let between = subject.stats().await?;
    let drain_s = in_parallel(subject, options, &bar, drain).await?;
    let after = subject.stats().await?;
    bar.finish_and_clear();
    let pickups = pickups(subject).await?;

    let jobs = f64::from(options.jobs);
    let since = |read: fn(&ServerStats) -> f64, then: &Option<ServerStats>| match (&before, then) {
        (Some(before), Some(then)) => Some((read(then) - read(before)) / jobs),
        _ => None,
    };
    let per_job = |read| since(read, &after);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(Figures {
        store: subject.queue.backend().describe(),
        jobs: options.jobs,
        enqueued_per_s: jobs / enqueue_s,
        drained_per_s: jobs / drain_s,
        redis_commands_per_job: per_job(|stats| stats.commands as f64),
        redis_calls_per_job: per_job(|stats| stats.calls as f64),
        redis_cpu_us_per_job: per_job(|stats| stats.busy_us),
        redis_cpu_us_per_enqueue: since(|stats| stats.busy_us, &between),
        redis_bytes_per_queued_job: since(|stats| stats.memory_bytes as f64, &between),
        pickup_p50_ms: percentile(&pickups, 0.50),
        pickup_p99_ms: percentile(&pickups, 0.99),
    })
}

/// Runs `work` in as many loops as there are workers; answers with the seconds it took.
async fn in_parallel<F, W>(
    subject: &Subject,
    options: &Options,
    bar: &ProgressBar,
    work: W,
) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
    W: Fn(Subject, Options, u32, ProgressBar) -> F,
{
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for worker in 0..options.workers {
        loops.spawn(work(subject.clone(), options.clone(), worker, bar.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Enqueues every `workers`-th batch.
async fn enqueue(
    subject: Subject,
    options: Options,
    worker: u32,
    bar: ProgressBar,
) -> anyhow::Result<()> {
    let bulk = options.bulk.unwrap_or(options.batch);
    let mut first = worker * bulk;
    while first < options.jobs {
        let last = (first + bulk).min(options.jobs);
        let jobs = (first..last).map(|number| subject.job(number)).collect();
        subject.queue.backend().enqueue(&subject.shard, jobs).await?;
        bar.inc(u64::from(last - first));
        first += options.workers * bulk;
    }
    Ok(())
}

/// Begins and ends attempts until none is left; each step ends one batch and begins the next.
async fn drain(
    subject: Subject,
    options: Options,
    _worker: u32,
    bar: ProgressBar,
) -> anyhow::Result<()> {
    let max = usize::try_from(options.batch)?;
    let mut settlements = Vec::new();
    loop {
        let leases = subject.step(std::mem::take(&mut settlements), max).await?;
        if leases.is_empty() {
            return Ok(());
        }
        bar.inc(leases.len() as u64);
        settlements =
            leases.into_iter().map(|lease| lease.settle(subject.succeeded(), None)).collect();
    }
}

/// How long a job takes from its submission to a worker that had nothing to do, in milliseconds,
/// sorted. The next job is submitted when the worker waits again.
async fn pickups(subject: &Subject) -> anyhow::Result<Vec<f64>> {
    let (idle, mut asleep) = tokio::sync::mpsc::channel(1);
    let (picked, mut times) = tokio::sync::mpsc::channel(1);
    let worker = subject.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut settlements = Vec::new();
        let mut seen = 0;
        while seen < PICKUPS {
            let mut leases = worker.step(std::mem::take(&mut settlements), 1).await?;
            if leases.is_empty() {
                // Full when nobody took the last one: then the submitter knows already.
                idle.try_send(()).ok();
                leases = worker.next().await?;
            }
            let now = Instant::now();
            if leases.is_empty() {
                continue;
            }
            settlements =
                leases.into_iter().map(|lease| lease.settle(worker.succeeded(), None)).collect();
            seen += 1;
            picked.send(now).await?;
        }
        worker.step(settlements, 0).await?;
        anyhow::Ok(())
    });
    let mut waits = Vec::with_capacity(PICKUPS);
    for number in 0..PICKUPS {
        asleep.recv().await.context("the worker stopped")?;
        // The worker is about to block: let its call reach the store.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let job = subject.job(u32::try_from(number)?);
        let began = Instant::now();
        subject.queue.backend().enqueue(&subject.shard, vec![job]).await?;
        let picked = times.recv().await.context("the worker stopped")?;
        waits.push(picked.saturating_duration_since(began).as_secs_f64() * 1000.0);
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maybe =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        writeln!(f, "{}", self.store)?;
        for (name, value) in [
            ("jobs", self.jobs.to_string()),
            ("enqueued per s", format!("{:.0}", self.enqueued_per_s)),
            ("drained per s", format!("{:.0}", self.drained_per_s)),
            ("Redis commands per job", maybe(self.redis_commands_per_job)),
            ("Redis calls per job", maybe(self.redis_calls_per_job)),
            ("Redis CPU per job, us", maybe(self.redis_cpu_us_per_job)),
            ("  of which to enqueue, us", maybe(self.redis_cpu_us_per_enqueue)),
            ("Redis bytes per queued job", maybe(self.redis_bytes_per_queued_job)),
            ("pick-up p50, ms", format!("{:.2}", self.pickup_p50_ms)),
            ("pick-up p99, ms", format!("{:.2}", self.pickup_p99_ms)),
        ] {
            writeln!(f, "{name:<28} {value:>12}")?;
        }
        Ok(())
    }
}
