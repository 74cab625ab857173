//! `causeway bench queue`: the speed of the engine, and the load of each job on the store.
//!
//! Three phases: enqueue all, drain all, then one job at a time to an idle worker for the pick-up
//! latency. Redis's own counters are read around the first two. The measurement uses a lane of its
//! own and removes it at every end except a kill.

mod figures;
mod phases;
mod subject;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
};

use anyhow::{bail, ensure};
use causeway_redis::ServerStats;
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    figures::QueueFigures,
    phases::{drain, enqueue, in_parallel, pickups},
    subject::BenchSubject,
};
use super::{args::QueueBench as Options, percentile::percentile};
use crate::signals::Signals;

/// Measures and prints. The first SIGTERM or SIGINT ends the measurement between two calls; the
/// second ends it at once and leaves its lane behind.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let subject = BenchSubject::open(&options).await?;
    // The removal follows the last call, which would otherwise leave keys behind.
    let mut whole = pin!(async { (measure(&subject, &options).await, subject.remove().await) });
    let (measured, removed) = tokio::select! {
        ended = &mut whole => ended,
        signal = signals.next() => {
            subject.stop.cancel();
            let (measured, removed) = tokio::select! {
                ended = whole => ended,
                again = signals.next() => {
                    bail!("{again}: ended at once; lane {} is left behind", subject.shard.lane)
                }
            };
            // After a signal, the error of the measurement is only its consequence.
            let stopped = |_| anyhow::anyhow!("{signal}: the measurement was stopped");
            (measured.map_err(stopped), removed)
        }
    };
    match (measured, removed) {
        (Ok(figures), removed) => print(&figures, options.json).and(removed)?,
        (Err(error), Ok(())) => bail!("{error:#}; what was made is removed"),
        (Err(error), Err(left)) => bail!("{error:#}; {left:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(figures: &QueueFigures, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string(figures)?)?;
    } else {
        write!(out, "{figures}")?;
    }
    Ok(())
}

async fn measure(subject: &BenchSubject, options: &Options) -> anyhow::Result<QueueFigures> {
    // A first call loads the scripts, so that their loading is not measured.
    subject.queue.views().stats(&subject.shard, None).await?;
    let bar = progress(u64::from(options.jobs) * 2);
    let before = subject.stats().await?;
    let (enqueue_s, _) = in_parallel(subject, options, &bar, enqueue).await?;
    let between = subject.stats().await?;
    let (drain_s, drained) = in_parallel(subject, options, &bar, drain).await?;
    let after = subject.stats().await?;
    bar.finish_and_clear();
    ensure!(!subject.stop.is_cancelled(), "the measurement was stopped");
    ensure!(
        drained == u64::from(options.jobs),
        "{drained} of {} jobs came back; does another process take or delete jobs of lane {}?",
        options.jobs,
        subject.shard.lane
    );
    let pickups = pickups(subject).await?;

    let jobs = f64::from(options.jobs);
    let since = |read: fn(&ServerStats) -> f64, then: &Option<ServerStats>| match (&before, then) {
        (Some(before), Some(then)) => Some((read(then) - read(before)) / jobs),
        _ => None,
    };
    let per_job = |read| since(read, &after);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(QueueFigures {
        store: subject.queue.administration().describe(),
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

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
