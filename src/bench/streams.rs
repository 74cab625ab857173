//! `causeway bench streams`: many clients, each of which reads one stream token by token.
//!
//! The upstream is `causeway simulate --stamps`: each token is its number and the time at which it
//! was due, such as `17@1764090000123`. From these a client counts lost and reordered tokens and
//! measures each token's delay, provided that both processes run on one machine.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use causeway_queue::clock::{Clock as _, Millis, SystemClock};
use serde::Serialize;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    args::StreamsBench as Options,
    http_connection::{HttpConnection, post},
    percentile::{percentile, rank},
};
use crate::{open_files, target::Target};

/// The time that a stream may take beyond its planned duration.
const EXTRA_TIME: Duration = Duration::from_secs(60);

/// The last bucket of the delays, which has one bucket per millisecond; it also counts all longer
/// ones.
const LONGEST_MS: usize = 120_000;

/// The last bytes of a complete stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The results of the measurement. A delay runs from the due time of a token to its arrival.
#[derive(Debug, Serialize)]
struct StreamFigures {
    clients: u32,
    completed: usize,
    /// Streams that failed or ended without `[DONE]`, by kind.
    failed: BTreeMap<String, usize>,
    tokens: u64,
    lost: u64,
    reordered: u64,
    delay_p50_ms: usize,
    delay_p99_ms: usize,
    delay_max_ms: usize,
    /// The longest time between two tokens of any client.
    longest_stall_ms: f64,
    /// The 99th percentile of the longest time between two tokens of each client.
    stall_p99_ms: f64,
    first_token_p50_ms: f64,
    first_token_p99_ms: f64,
}

/// The data that all clients share.
struct SharedState {
    target: Target,
    body: Bytes,
    tokens: u64,
    clock: SystemClock,
    delays: Vec<AtomicU64>,
}

/// The observations of one client.
#[derive(Debug)]
struct Observations {
    first: Option<Duration>,
    last: Instant,
    stall: Duration,
    next: u64,
    tokens: u64,
    lost: u64,
    reordered: u64,
    tail: Vec<u8>,
    reader: TokenReader,
}

/// Finds the tokens in the bytes of a stream, wherever its pieces are cut.
#[derive(Debug, Default)]
struct TokenReader {
    number: u64,
    stamp: Option<u64>,
}

impl TokenReader {
    fn feed(&mut self, piece: &[u8], mut token: impl FnMut(u64, u64)) {
        for byte in piece {
            match (byte, &mut self.stamp) {
                (b'0'..=b'9', stamp) => {
                    let digits = stamp.as_mut().unwrap_or(&mut self.number);
                    *digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                }
                (b'@', stamp @ None) => *stamp = Some(0),
                (_, stamp) => {
                    if let Some(stamp) = stamp.take() {
                        token(self.number, stamp);
                    }
                    // Digits without an `@`, such as those of an id, are no token.
                    self.number = 0;
                }
            }
        }
    }
}

/// Measures and prints; returns a failure if a stream failed or a token is missing.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let connections = u64::from(options.clients);
    if let Some(shortage) = open_files::shortage(open_files::raise(connections), connections) {
        writeln!(io::stderr(), "warning: {shortage}")?;
    }
    let figures = measure(&options).await?;
    let mut out = io::stdout();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&figures)?)?;
    } else {
        write!(out, "{figures}")?;
    }
    let is_whole = figures.failed.is_empty() && figures.lost + figures.reordered == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(options: &Options) -> anyhow::Result<StreamFigures> {
    let url = options.url.trim_end_matches('/').trim_end_matches("/v1");
    let tokens = u64::from(options.seconds) * u64::from(options.tokens_per_second);
    let message = json!({ "role": "user", "content": "Count." });
    let body =
        json!({ "model": "bench", "messages": [message], "max_tokens": tokens, "stream": true });
    let shared = Arc::new(SharedState {
        target: Target::find("--url", url, "/v1/chat/completions").await?,
        body: body.to_string().into(),
        tokens,
        clock: SystemClock::default(),
        delays: (0..=LONGEST_MS).map(|_| AtomicU64::new(0)).collect(),
    });
    let start = Instant::now();
    let ramp = Duration::from_secs(options.ramp.into());
    let at_most = Duration::from_secs(options.seconds.into()) + EXTRA_TIME;
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let shared = Arc::clone(&shared);
        let starts_at = start + ramp * number / options.clients;
        clients.spawn(async move {
            sleep_until(starts_at).await;
            let mut seen = Observations::new();
            let read = timeout(at_most, read(&shared, &mut seen)).await;
            let end = match read {
                Err(_) => Err("not ended in time".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(())) if seen.tail == DONE => Ok(()),
                Ok(Ok(())) => Err("ended without [DONE]".to_owned()),
            };
            (seen, end)
        });
    }
    let mut all = Vec::with_capacity(usize::try_from(options.clients)?);
    while let Some(client) = clients.join_next().await {
        all.push(client?);
    }
    Ok(figures(options, &shared, &all))
}

/// Reads one stream to its end.
async fn read(shared: &SharedState, seen: &mut Observations) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut line = HttpConnection::open(&shared.target).await?;
    let request = post(&shared.target, shared.body.clone())?;
    line.call(request, |piece| seen.take(piece, began, shared)).await
}

impl Observations {
    fn new() -> Self {
        Self {
            first: None,
            last: Instant::now(),
            stall: Duration::ZERO,
            next: 0,
            tokens: 0,
            lost: 0,
            reordered: 0,
            tail: Vec::new(),
            reader: TokenReader::default(),
        }
    }

    fn take(&mut self, piece: &[u8], began: Instant, shared: &SharedState) {
        let now = Instant::now();
        let read_at = shared.clock.now();
        let Self { next, tokens, lost, reordered, reader, .. } = self;
        let before = *tokens;
        reader.feed(piece, |number, stamp| {
            *tokens += 1;
            match number.checked_sub(*next) {
                Some(missed) => {
                    *lost += missed;
                    *next = number + 1;
                }
                None => *reordered += 1,
            }
            let delay = usize::try_from(read_at.since(Millis(stamp)).as_millis());
            let bucket = delay.unwrap_or(LONGEST_MS).min(LONGEST_MS);
            // The counts are read after all clients have ended, so no order is needed.
            shared.delays[bucket].fetch_add(1, Ordering::Relaxed);
        });
        if *tokens > before {
            match self.first {
                None => self.first = Some(now - began),
                Some(_) => self.stall = self.stall.max(now - self.last),
            }
            self.last = now;
        }
        // Only the last bytes show whether the stream ended with `[DONE]`.
        self.tail.extend_from_slice(&piece[piece.len().saturating_sub(DONE.len())..]);
        let surplus = self.tail.len().saturating_sub(DONE.len());
        self.tail.drain(..surplus);
    }
}

fn figures(
    options: &Options,
    shared: &SharedState,
    all: &[(Observations, Result<(), String>)],
) -> StreamFigures {
    let mut failed = BTreeMap::new();
    for kind in all.iter().filter_map(|(_, end)| end.as_ref().err()) {
        *failed.entry(kind.clone()).or_insert(0) += 1;
    }
    let counts: Vec<u64> =
        shared.delays.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let total: u64 = counts.iter().sum();
    let delay = |share| {
        let wanted = rank(usize::try_from(total).unwrap_or(usize::MAX), share) as u64;
        let mut below = 0;
        let bucket = counts.iter().position(|count| {
            below += count;
            below >= wanted
        });
        bucket.unwrap_or(0)
    };
    let sorted = |of: fn(&Observations) -> Option<Duration>| {
        let spans = all.iter().filter_map(|(seen, _)| of(seen));
        let mut spans: Vec<f64> = spans.map(|span| span.as_secs_f64() * 1000.0).collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    let stalls = sorted(|seen| Some(seen.stall));
    let firsts = sorted(|seen| seen.first);
    let tokens: u64 = all.iter().map(|(seen, _)| seen.tokens).sum();
    let reordered = all.iter().map(|(seen, _)| seen.reordered).sum();
    // Tokens that are missing at the end are lost too.
    let lost =
        all.iter().map(|(seen, _)| seen.lost + shared.tokens.saturating_sub(seen.next)).sum();
    StreamFigures {
        clients: options.clients,
        completed: all.iter().filter(|(_, end)| end.is_ok()).count(),
        failed,
        tokens,
        lost,
        reordered,
        delay_p50_ms: delay(0.50),
        delay_p99_ms: delay(0.99),
        delay_max_ms: counts.iter().rposition(|count| *count > 0).unwrap_or(0),
        longest_stall_ms: percentile(&stalls, 1.0),
        stall_p99_ms: percentile(&stalls, 0.99),
        first_token_p50_ms: percentile(&firsts, 0.50),
        first_token_p99_ms: percentile(&firsts, 0.99),
    }
}

impl fmt::Display for StreamFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed.iter().map(|(kind, count)| format!("; {count} {kind}"));
        let failed: String = failed.collect();
        let spans = |p50: f64, p99: f64| format!("p50 {p50:.0}, p99 {p99:.0}");
        for (name, value) in [
            ("streams", format!("{} of {} completed{failed}", self.completed, self.clients)),
            ("tokens", self.tokens.to_string()),
            ("lost", self.lost.to_string()),
            ("out of order", self.reordered.to_string()),
            (
                "delay of a token, ms",
                format!(
                    "p50 {}, p99 {}, max {}",
                    self.delay_p50_ms, self.delay_p99_ms, self.delay_max_ms
                ),
            ),
            (
                "longest stall, ms",
                format!("{:.0}; p99 of clients {:.0}", self.longest_stall_ms, self.stall_p99_ms),
            ),
            ("first token, ms", spans(self.first_token_p50_ms, self.first_token_p99_ms)),
        ] {
            writeln!(f, "{name:<22} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_split_pieces() {
        let text = b"data: {\"id\":\"c-7\",\"content\":\"0@1764090000123\"}\n\ndata: {\"content\":\" 1@1764090000323 2@9\"}\n\n";
        for size in 1..=text.len() {
            let (mut reader, mut found) = (TokenReader::default(), Vec::new());
            for piece in text.chunks(size) {
                reader.feed(piece, |number, stamp| found.push((number, stamp)));
            }
            assert_eq!(found, [(0, 1_764_090_000_123), (1, 1_764_090_000_323), (2, 9)]);
        }
    }

    #[tokio::test]
    async fn missing_and_reordered_tokens_are_counted() {
        let shared = SharedState {
            target: Target::find("--url", "http://127.0.0.1:1", "/").await.unwrap(),
            body: Bytes::new(),
            tokens: 6,
            clock: SystemClock::default(),
            delays: (0..=LONGEST_MS).map(|_| AtomicU64::new(0)).collect(),
        };
        let mut seen = Observations::new();
        let now = shared.clock.now().0;
        let text = format!("0@{now} 1@{now} 4@{now} 3@{now} data: [DONE]\n\n");
        for piece in text.as_bytes().chunks(5) {
            seen.take(piece, Instant::now(), &shared);
        }
        assert_eq!((seen.tokens, seen.lost, seen.reordered, seen.next), (4, 2, 1, 5));
        assert_eq!(seen.tail, DONE);
    }
}
