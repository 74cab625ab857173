//! The phases of the measurement: enqueue all, drain all, pick up one job at a time.
//!
//! A loop that is cancelled or fails ends between two calls, and so do the others: when a phase has
//! ended, none of its calls is under way.

use std::{mem::take, time::Duration};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinSet,
    time::Instant,
};

use super::subject::BenchSubject;
use crate::bench::args::QueueBench as Options;

/// The number of jobs by which the pick-up latency is measured.
const PICKUPS: usize = 1000;

/// The most consecutive waits of 2 s in which an idle worker gets no job that was submitted for it.
const MAX_EMPTY_WAITS: u32 = 5;

/// Runs `work` in one loop per worker; returns the seconds that it took and the number of jobs.
pub(super) async fn in_parallel<F, W>(
    subject: &BenchSubject,
    options: &Options,
    bar: &ProgressBar,
    work: W,
) -> anyhow::Result<(f64, u64)>
where
    F: Future<Output = anyhow::Result<u64>> + Send + 'static,
    W: Fn(BenchSubject, Options, u32, ProgressBar) -> F,
{
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for worker in 0..options.workers {
        loops.spawn(work(subject.clone(), options.clone(), worker, bar.clone()));
    }
    let mut jobs: anyhow::Result<u64> = Ok(0);
    while let Some(ended) = loops.join_next().await {
        let ended = ended.context("a loop panicked").and_then(|ended| ended);
        // The figures are void, so the other loops end too.
        if ended.is_err() {
            subject.stop.cancel();
        }
        jobs = jobs.and_then(|jobs| Ok(jobs + ended?));
    }
    Ok((began.elapsed().as_secs_f64(), jobs?))
}

/// Enqueues every `workers`-th batch.
pub(super) async fn enqueue(
    subject: BenchSubject,
    options: Options,
    worker: u32,
    bar: ProgressBar,
) -> anyhow::Result<u64> {
    let bulk = options.bulk.unwrap_or(options.batch);
    let (mut first, mut enqueued) = (worker * bulk, 0);
    while first < options.jobs && !subject.stop.is_cancelled() {
        let last = (first + bulk).min(options.jobs);
        let jobs = (first..last).map(|number| subject.job(number)).collect();
        subject.queue.transitions().enqueue(&subject.shard, jobs).await?;
        bar.inc(u64::from(last - first));
        enqueued += u64::from(last - first);
        // The loops take turns, and need no coordination.
        first += options.workers * bulk;
    }
    Ok(enqueued)
}

/// Claims and settles until no job is left; each step settles one batch and claims the next.
pub(super) async fn drain(
    subject: BenchSubject,
    options: Options,
    _worker: u32,
    bar: ProgressBar,
) -> anyhow::Result<u64> {
    let max = usize::try_from(options.batch)?;
    let (mut settlements, mut drained) = (Vec::new(), 0);
    while !subject.stop.is_cancelled() {
        let leases = subject.step(take(&mut settlements), max).await?;
        if leases.is_empty() {
            break;
        }
        bar.inc(leases.len() as u64);
        drained += leases.len() as u64;
        settlements =
            leases.into_iter().map(|lease| lease.settle(subject.succeeded(), None)).collect();
    }
    Ok(drained)
}

/// Returns the milliseconds from the submission of each job to its claim by an idle worker, sorted.
/// The next job is submitted when the worker waits again.
pub(super) async fn pickups(subject: &BenchSubject) -> anyhow::Result<Vec<f64>> {
    let (idle, asleep) = channel(1);
    let (picked, times) = channel(1);
    let mut worker = JoinSet::new();
    worker.spawn(pick_up(subject.clone(), idle, picked));
    let waits = submit_each(subject, asleep, times).await;
    if waits.is_err() {
        subject.stop.cancel();
    }
    // The worker's own error says more than the closed channel.
    while let Some(ended) = worker.join_next().await {
        ended??;
    }
    let mut waits = waits?;
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}

/// Claims one job after another, and reports each wait and each claim.
async fn pick_up(
    worker: BenchSubject,
    idle: Sender<()>,
    picked: Sender<Instant>,
) -> anyhow::Result<()> {
    let mut settlements = Vec::new();
    let (mut seen, mut in_vain) = (0, 0);
    while seen < PICKUPS && !worker.stop.is_cancelled() {
        let mut leases = worker.step(take(&mut settlements), 1).await?;
        if leases.is_empty() {
            // The channel is full if the submitter has not read the last report: then it knows
            // already.
            idle.try_send(()).ok();
            leases = worker.next().await?;
        }
        let now = Instant::now();
        if leases.is_empty() {
            in_vain += 1;
            anyhow::ensure!(
                in_vain < MAX_EMPTY_WAITS,
                "the idle worker got none of its jobs; does another process claim \
                 or pause jobs of lane {}?",
                worker.shard.lane
            );
            continue;
        }
        settlements =
            leases.into_iter().map(|lease| lease.settle(worker.succeeded(), None)).collect();
        (seen, in_vain) = (seen + 1, 0);
        if picked.send(now).await.is_err() {
            break;
        }
    }
    // The last job is settled without a further claim.
    worker.step(settlements, 0).await?;
    Ok(())
}

/// Submits a job whenever the worker waits; returns the milliseconds until each claim.
async fn submit_each(
    subject: &BenchSubject,
    mut asleep: Receiver<()>,
    mut times: Receiver<Instant>,
) -> anyhow::Result<Vec<f64>> {
    let mut waits = Vec::with_capacity(PICKUPS);
    for number in 0..PICKUPS {
        asleep.recv().await.context("the worker stopped")?;
        // The worker is about to block: this pause lets its call reach the store first.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let job = subject.job(u32::try_from(number)?);
        let began = Instant::now();
        subject.queue.transitions().enqueue(&subject.shard, vec![job]).await?;
        let picked = times.recv().await.context("the worker stopped")?;
        waits.push(picked.saturating_duration_since(began).as_secs_f64() * 1000.0);
    }
    Ok(waits)
}
