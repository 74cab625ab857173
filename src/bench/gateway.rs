//! `causeway bench gateway`: the cost of a chat call on its way through API, store and worker.
//!
//! Calls come in pairs, one to the upstream itself and one through Causeway, half an interval
//! apart; they take turns in going first. Each starts on schedule even while earlier ones run (an
//! open loop), and its time counts from its start. With `--saturate` each connection starts its
//! next call when the last one has ended (a closed loop), all of them through Causeway.
//! next call when the last one has ended (a closed loop), all of them through Causeway.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    args::GatewayBench as Options,
    http_connection::{HttpConnection, post},
    percentile::percentile,
};
use crate::{open_files, target::Target};

/// The duration of the warm-up; its calls are not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// The time-out of a call, after which it counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The most tokens of an answer.
const MAX_TOKENS: u32 = 16;

/// The results of an open loop, in milliseconds: until the whole answer, or until its first token.
#[derive(Debug, Serialize)]
struct Paced {
    until: &'static str,
    pairs_per_s: u32,
    pairs: usize,
    failed: usize,
    direct_p50_ms: f64,
    direct_p99_ms: f64,
    via_p50_ms: f64,
    via_p99_ms: f64,
    /// The median of the differences within pairs.
    added_p50_ms: f64,
    added_p99_ms: f64,
}

/// The results of a closed loop.
#[derive(Debug, Serialize)]
struct Saturated {
    until: &'static str,
    connections: u32,
    calls: usize,
    failed: usize,
    calls_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// A server and its idle connections.
struct Side {
    target: Target,
    body: Bytes,
    streams: bool,
    idle: Mutex<Vec<HttpConnection>>,
}

/// Measures and prints; returns a failure if calls failed, as the figures then say little.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // Both sides need a connection for every call that may be under way.
    open_files::raise(u64::from(options.connections.max(options.rate)) * 2);
    let via = Arc::new(Side::find("--via", &options.via, options.stream).await?);
    let failed = match &options.direct {
        Some(direct) if !options.saturate => {
            let direct = Arc::new(Side::find("--direct", direct, options.stream).await?);
            let figures = paced(&direct, &via, &options).await?;
            print(&figures, &options)?;
            figures.failed
        }
        _ => {
            let figures = saturated(&via, &options).await?;
            print(&figures, &options)?;
            figures.failed
        }
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(figures: &(impl Serialize + fmt::Display), options: &Options) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(figures)?)?;
    } else {
        write!(out, "{figures}")?;
    }
    Ok(())
}

/// Returns the event that ends the time of a call.
fn until(options: &Options) -> &'static str {
    if options.stream { "first token" } else { "whole answer" }
}

impl Side {
    async fn find(flag: &str, url: &str, streams: bool) -> anyhow::Result<Self> {
        // Users paste base URLs with and without `/v1`.
        let url = url.trim_end_matches('/').trim_end_matches("/v1");
        let target = Target::find(flag, url, "/v1/chat/completions").await?;
        let message = json!({ "role": "user", "content": "Hello, is anybody there?" });
        let body = json!({
            "model": "bench", "messages": [message], "max_tokens": MAX_TOKENS, "stream": streams,
        });
        let side = Self { target, body: body.to_string().into(), streams, idle: Mutex::default() };
        // A first call finds a missing server before the load starts.
        let answer = timeout(CALL_TIMEOUT, side.call(Instant::now())).await;
        let answer = answer.with_context(|| format!("{flag} {url} does not answer"))?;
        answer.with_context(|| format!("{flag} {url} does not serve"))?;
        Ok(side)
    }

    /// Makes one call; returns the milliseconds from `began` to its answer.
    async fn call(&self, began: Instant) -> anyhow::Result<f64> {
        let free = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut line = match free {
            Some(line) => line,
            None => HttpConnection::open(&self.target).await?,
        };
        let took = self.call_on(&mut line, began).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(took)
    }

    async fn call_on(&self, line: &mut HttpConnection, began: Instant) -> anyhow::Result<f64> {
        let mut first = None;
        line.call(post(&self.target, self.body.clone())?, |piece| {
            // Comments precede the first token while the call waits in the queue.
            if first.is_none() && piece.starts_with(b"data:") {
                first = Some(began.elapsed());
            }
        })
        .await?;
        let took =
            if self.streams { first.context("a stream without events")? } else { began.elapsed() };
        Ok(took.as_secs_f64() * 1000.0)
    }
}

async fn paced(direct: &Arc<Side>, via: &Arc<Side>, options: &Options) -> anyhow::Result<Paced> {
    let interval = Duration::from_secs(1) / options.rate;
    let warm_up = options.rate * u32::try_from(WARM_UP.as_secs())?;
    let count = options.rate * options.seconds;
    let mut pairs = vec![[None; 2]; usize::try_from(count)?];
    let mut calls = JoinSet::new();
    let start = Instant::now();
    for number in 0..warm_up + count {
        for turn in 0..2 {
            let at = start + interval * number + interval * turn / 2;
            sleep_until(at).await;
            // Direct calls go first in even pairs, so that neither side always meets a colder
            // machine.
            let index = usize::from((turn == 0) == (number % 2 == 0));
            let side = Arc::clone([direct, via][index]);
            let began = Instant::now();
            calls.spawn(async move {
                let took = timeout(CALL_TIMEOUT, side.call(began)).await;
                (number, index, took.ok().and_then(Result::ok))
            });
        }
        // Ended tasks are collected on the way, so that they do not pile up in memory.
        while let Some(ended) = calls.try_join_next() {
            record(&mut pairs, warm_up, ended?);
        }
    }
    while let Some(ended) = calls.join_next().await {
        record(&mut pairs, warm_up, ended?);
    }
    Ok(summary(&pairs, options))
}

/// Summarizes the pairs of a direct call and one through Causeway, in milliseconds; `None` is a failed call.
fn summary(pairs: &[[Option<f64>; 2]], options: &Options) -> Paced {
    let whole: Vec<(f64, f64)> =
        pairs.iter().filter_map(|[direct, via]| Some(((*direct)?, (*via)?))).collect();
    let sorted = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = whole.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (direct, via) = (sorted(|pair| pair.0), sorted(|pair| pair.1));
    let added = sorted(|pair| pair.1 - pair.0);
    Paced {
        until: until(options),
        pairs_per_s: options.rate,
        pairs: whole.len(),
        failed: pairs.len() - whole.len(),
        direct_p50_ms: percentile(&direct, 0.50),
        direct_p99_ms: percentile(&direct, 0.99),
        via_p50_ms: percentile(&via, 0.50),
        via_p99_ms: percentile(&via, 0.99),
        added_p50_ms: percentile(&added, 0.50),
        added_p99_ms: percentile(&added, 0.99),
    }
}

/// Records the time of a call, unless it belongs to the warm-up.
fn record(
    pairs: &mut [[Option<f64>; 2]],
    warm_up: u32,
    (number, index, took): (u32, usize, Option<f64>),
) {
    let pair = number.checked_sub(warm_up).and_then(|number| usize::try_from(number).ok());
    if let Some(pair) = pair.and_then(|number| pairs.get_mut(number)) {
        pair[index] = took;
    }
}

async fn saturated(via: &Arc<Side>, options: &Options) -> anyhow::Result<Saturated> {
    let from = Instant::now() + WARM_UP;
    let span = Duration::from_secs(options.seconds.into());
    let mut loops = JoinSet::new();
    for _ in 0..options.connections {
        let via = Arc::clone(via);
        loops.spawn(async move {
            let (mut line, mut times, mut failed) = (None, Vec::new(), 0);
            loop {
                let began = Instant::now();
                if began >= from + span {
                    return (times, failed);
                }
                let took = timeout(CALL_TIMEOUT, via.call_again(&mut line)).await;
                // Calls of the warm-up, and those that outlive the measurement, do not count.
                let counts = began >= from && Instant::now() < from + span;
                match took {
                    Ok(Ok(took)) if counts => times.push(took),
                    Ok(Ok(_)) => {}
                    // A failed call leaves its connection in an unknown state.
                    Ok(Err(_)) | Err(_) => (line, failed) = (None, failed + 1),
                }
            }
        });
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(ended) = loops.join_next().await {
        let (more, more_failed) = ended?;
        times.extend(more);
        failed += more_failed;
    }
    times.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let calls_per_s = times.len() as f64 / span.as_secs_f64();
    Ok(Saturated {
        until: until(options),
        connections: options.connections,
        calls: times.len(),
        failed,
        calls_per_s,
        p50_ms: percentile(&times, 0.50),
        p99_ms: percentile(&times, 0.99),
    })
}

impl Side {
    /// Makes one call on the connection of the calling loop.
    async fn call_again(&self, line: &mut Option<HttpConnection>) -> anyhow::Result<f64> {
        let began = Instant::now();
        let line = match line {
            Some(line) => line,
            none => none.insert(HttpConnection::open(&self.target).await?),
        };
        self.call_on(line, began).await
    }
}

impl fmt::Display for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { until, pairs_per_s, pairs, failed, .. } = self;
        writeln!(f, "{pairs} pairs at {pairs_per_s} a second, {failed} failed; ms to the {until}")?;
        writeln!(f, "{:<8} {:>8} {:>8}", "", "p50", "p99")?;
        for (name, p50, p99) in [
            ("direct", self.direct_p50_ms, self.direct_p99_ms),
            ("via", self.via_p50_ms, self.via_p99_ms),
            ("added", self.added_p50_ms, self.added_p99_ms),
        ] {
            writeln!(f, "{name:<8} {p50:>8.2} {p99:>8.2}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Saturated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { until, connections, calls, failed, .. } = self;
        writeln!(f, "{calls} calls over {connections} connections, {failed} failed")?;
        writeln!(f, "calls per s          {:>8.0}", self.calls_per_s)?;
        writeln!(f, "ms to the {until}: p50 {:.2}, p99 {:.2}", self.p50_ms, self.p99_ms)
    }
}
