//! A simulated upstream: for first steps, tests and load.
//!
//! [`SimulatedUpstream::reply`] plans an answer and the time of each of its pieces. The HTTP server of
//! `causeway simulate` and the in-process [`Upstream`] both execute that plan.

mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{
    RawJson,
    clock::{Clock as _, SystemClock},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use self::wire::{AnswerFrame, Piece, WireFormat, opening};
use super::call::{Answer, Call, Sink, StreamEvent, Upstream};
use crate::failure::{ErrorResponse, Failure};

/// The name of the simulated model.
pub const MODEL: &str = "simulated";

/// The endpoints of the simulation.
pub const URLS: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages"];

/// The words of answers, one per token.
const WORDS: [&str; 8] = ["and", "so", "the", "answer", "goes", "on", "word", "by"];

/// The settings of the simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedSettings {
    /// Delay of the first token. Default 200 ms.
    pub ttft: Duration,
    /// Tokens per second after the first. Default 50.
    pub tokens_per_s: f64,
    /// Tokens of an answer, unless the request allows fewer. Default 64.
    pub tokens: u32,
    /// Duration of every call; it replaces the two times above.
    pub call: Option<Duration>,
    /// True if each token is a stamp instead of a word: its number and due time, such as `17@1764090000123`
    /// (milliseconds since 1970). For measurements. Default false.
    pub stamps: bool,
    /// Seed of the failures: the same seed yields the same failures in the same order. Default 1.
    pub seed: u64,
    /// The shares of calls that fail.
    pub failures: FailureMix,
}

/// Shares of calls that fail; each from 0 to 1, together at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailureMix {
    /// Refused with 429.
    pub rate_limited: f64,
    /// `Retry-After` of the calls refused with 429. Default 1 s.
    pub retry_after: Duration,
    /// Refused with 500.
    pub error: f64,
    /// Never answered.
    pub hang: f64,
    /// Cut in the middle of the answer.
    pub cut: f64,
}

impl Default for FailureMix {
    fn default() -> Self {
        let retry_after = Duration::from_secs(1);
        Self { rate_limited: 0.0, retry_after, error: 0.0, hang: 0.0, cut: 0.0 }
    }
}

impl Default for SimulatedSettings {
    fn default() -> Self {
        Self {
            ttft: Duration::from_millis(200),
            tokens_per_s: 50.0,
            tokens: 64,
            call: None,
            stamps: false,
            seed: 1,
            failures: FailureMix::default(),
        }
    }
}

/// The simulated upstream.
#[derive(Debug)]
pub struct SimulatedUpstream {
    settings: SimulatedSettings,
    calls: AtomicU64,
    clock: Arc<SystemClock>,
}

/// A planned answer: a status, then pieces, each after its delay, then the ending.
#[derive(Debug)]
pub struct SimulatedReply {
    /// The HTTP status.
    pub status_code: u16,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
    /// True if the pieces are the data of events, false if the piece is a JSON body.
    pub stream: bool,
    /// The end after the last piece.
    pub ending: Ending,
    pieces: std::vec::IntoIter<(Duration, Piece)>,
    frame: AnswerFrame,
    stamps: Option<Stamps>,
}

/// The generator of stamps.
#[derive(Debug)]
struct Stamps {
    clock: Arc<SystemClock>,
    next: u64,
}

/// The end of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A complete answer.
    Complete,
    /// The answer never ends.
    Hang,
    /// The connection breaks.
    Cut,
}

impl SimulatedReply {
    /// Returns the next piece: its delay, and the data (of an event, or the body).
    pub fn next_piece(&mut self) -> Option<(Duration, String)> {
        let (after, piece) = self.pieces.next()?;
        let piece = match &mut self.stamps {
            Some(stamps) => stamps.put_on(piece, after),
            None => piece,
        };
        Some((after, self.frame.write(piece)))
    }
}

impl Stamps {
    /// Replaces the word of a piece by a stamp that is due after `after`.
    fn put_on(&mut self, piece: Piece, after: Duration) -> Piece {
        let mut stamp = || {
            let number = self.next;
            self.next += 1;
            format!("{number}@{}", self.clock.now().after(after).0)
        };
        match piece {
            Piece::Opening(_) => Piece::Opening(stamp()),
            Piece::Text(_) => Piece::Text(stamp().into()),
            Piece::Whole(_)
            | Piece::Start
            | Piece::Block
            | Piece::Last
            | Piece::Usage
            | Piece::Done => piece,
        }
    }
}

/// The part of a request that the simulation uses.
struct SimulatedRequest {
    model: String,
    prompt: String,
    tokens: usize,
    stream: bool,
    include_usage: bool,
}

impl SimulatedUpstream {
    /// Creates a simulation.
    #[must_use]
    pub fn new(settings: SimulatedSettings) -> Self {
        Self { settings, calls: AtomicU64::new(0), clock: Arc::default() }
    }

    /// Plans the answer to the request of `body` to `url`.
    #[must_use]
    pub fn reply(&self, url: &str, body: &[u8]) -> SimulatedReply {
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return refuse(400, None, "the body is not JSON", "invalid_json");
        };
        if !URLS.contains(&url) {
            let message = format!("simulated: there is no {url}; there is {}", URLS.join(", "));
            return refuse(404, None, &message, "unknown_route");
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        // The number of the call is part of the seed: a run has the same failures, however its calls interleave.
        let mut draw = SmallRng::seed_from_u64(self.settings.seed.wrapping_add(number));
        let drawn: f64 = draw.random();
        let mix = &self.settings.failures;
        let limits = [mix.rate_limited, mix.error, mix.hang, mix.cut];
        let mut below = 0.0;
        // The shares divide the range from 0 to 1; the drawn number falls into one of them, or into the rest.
        let failure = limits.into_iter().position(|share| {
            below += share;
            drawn < below
        });
        match failure {
            Some(0) => {
                let message = "simulated: too many requests";
                return refuse(429, Some(mix.retry_after), message, "rate_limit_exceeded");
            }
            Some(1) => return refuse(500, None, "simulated: server error", "server_error"),
            _ => {}
        }
        let mut reply = self.answer(url, &request, body.len());
        if failure == Some(2) {
            reply.pieces = Vec::new().into_iter();
            reply.ending = Ending::Hang;
        } else if failure == Some(3) {
            let half = reply.pieces.len() / 2;
            reply.pieces = reply.pieces.take(half).collect::<Vec<_>>().into_iter();
            reply.ending = Ending::Cut;
        }
        reply
    }

    fn answer(&self, url: &str, request: &Value, bytes: usize) -> SimulatedReply {
        let request_options = SimulatedRequest::read(request, self.settings.tokens);
        let usage = json!({
            "prompt_tokens": bytes.div_ceil(4),
            "completion_tokens": request_options.tokens,
            "total_tokens": bytes.div_ceil(4) + request_options.tokens,
        });
        let number = self.calls.load(Ordering::Relaxed);
        let format = WireFormat::of(url, request_options.stream);
        let frame = AnswerFrame::new(format, number, request_options.model.clone(), usage);
        let is_embedding = url.ends_with("/embeddings");
        let pieces = if is_embedding {
            vec![(self.settings.ttft, Piece::Whole(frame.embeddings(request)))]
        } else if request_options.stream {
            self.stream(&request_options, format)
        } else {
            let mut text = opening(&request_options.prompt);
            for word in WORDS.iter().cycle().take(request_options.tokens.saturating_sub(1)) {
                text.push(' ');
                text.push_str(word);
            }
            vec![(self.whole(request_options.tokens), Piece::Whole(frame.whole(&text)))]
        };
        SimulatedReply {
            status_code: 200,
            retry_after: None,
            stream: request_options.stream && !is_embedding,
            ending: Ending::Complete,
            pieces: pieces.into_iter(),
            frame,
            stamps: self
                .settings
                .stamps
                .then(|| Stamps { clock: Arc::clone(&self.clock), next: 0 }),
        }
    }

    /// Returns the duration of a whole answer.
    fn whole(&self, tokens: usize) -> Duration {
        self.settings.call.unwrap_or_else(|| {
            let rest = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
            self.settings.ttft + self.per_token() * rest
        })
    }

    fn per_token(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.settings.tokens_per_s).unwrap_or(Duration::ZERO)
    }

    fn stream(
        &self,
        request_options: &SimulatedRequest,
        format: WireFormat,
    ) -> Vec<(Duration, Piece)> {
        let rest = request_options.tokens.saturating_sub(1);
        let (first, each) = match self.settings.call {
            None => (self.settings.ttft, self.per_token()),
            Some(call) => {
                let each = call / u32::try_from(request_options.tokens.max(1)).unwrap_or(u32::MAX);
                (each, each)
            }
        };
        let mut pieces = Vec::with_capacity(rest + 5);
        if format == WireFormat::Message {
            pieces.extend([(Duration::ZERO, Piece::Start), (Duration::ZERO, Piece::Block)]);
        }
        pieces.push((first, Piece::Opening(opening(&request_options.prompt))));
        pieces.extend(
            WORDS.iter().cycle().take(rest).map(|word| (each, Piece::Text((*word).into()))),
        );
        pieces.push((Duration::ZERO, Piece::Last));
        if request_options.include_usage || format == WireFormat::Message {
            pieces.push((Duration::ZERO, Piece::Usage));
        }
        pieces.push((Duration::ZERO, Piece::Done));
        pieces
    }
}

impl SimulatedRequest {
    fn read(request: &Value, tokens: u32) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let last = request.get("messages").and_then(Value::as_array).and_then(|messages| {
            messages.iter().rev().find(|message| message.get("role") == Some(&json!("user")))
        });
        let prompt = last
            .and_then(|message| message.get("content"))
            .or_else(|| request.get("prompt"))
            .or_else(|| request.get("input"))
            .map(text)
            .unwrap_or_default();
        let bounds = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let bound = bounds.iter().find_map(|name| request.get(*name)?.as_u64());
        let tokens = u64::from(tokens).min(bound.unwrap_or(u64::MAX)).max(1);
        let options = request.get("stream_options");
        let usage = options.and_then(|options| options.get("include_usage"));
        Self {
            model: request.get("model").and_then(Value::as_str).unwrap_or(MODEL).to_owned(),
            prompt,
            tokens: usize::try_from(tokens).unwrap_or(1),
            stream: request.get("stream") == Some(&Value::Bool(true)),
            include_usage: usage == Some(&Value::Bool(true)),
        }
    }
}

fn refuse(
    status_code: u16,
    retry_after: Option<Duration>,
    message: &str,
    code: &str,
) -> SimulatedReply {
    let error = json!({ "message": message, "type": "simulated", "param": null, "code": code });
    let body = Piece::Whole(json!({ "error": error }).to_string());
    let frame = AnswerFrame::new(WireFormat::Chat, 0, String::new(), Value::Null);
    SimulatedReply {
        status_code,
        retry_after,
        stream: false,
        ending: Ending::Complete,
        pieces: vec![(Duration::ZERO, body)].into_iter(),
        frame,
        stamps: None,
    }
}

#[async_trait]
impl Upstream for SimulatedUpstream {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        sink.simulated();
        let mut reply = self.reply(&call.url, &call.body);
        let mut body = String::new();
        while let Some((after, data)) = reply.next_piece() {
            // Skips the timer: its resolution is one millisecond.
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            if !reply.stream {
                body = data;
            } else if sink.event(StreamEvent::unnamed(&data))?.is_break() {
                break;
            }
        }
        match reply.ending {
            Ending::Complete => {}
            Ending::Hang => std::future::pending().await,
            Ending::Cut => return Err(Failure::Cut("simulated".to_owned())),
        }
        if reply.status_code >= 400 {
            return Err(Failure::Refused(Box::new(ErrorResponse {
                status_code: reply.status_code,
                retry_after: reply.retry_after,
                body: RawJson::parse(body).unwrap_or_default(),
                ..ErrorResponse::default()
            })));
        }
        Ok(Answer { status_code: reply.status_code, body: Bytes::from(body) })
    }
}

#[cfg(test)]
mod tests;
