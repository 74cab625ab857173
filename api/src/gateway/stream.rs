//! The answer of a streamed call: the upstream's chunks in the wire format of the endpoint.
//!
//! A job that fails within a second gets the upstream's HTTP status. Otherwise the stream starts with status 200,
//! and comments keep it alive; SDKs ignore them as long as no event has an `id`. A stream that fails in its middle
//! ends with an error event, because SDKs take a bare end for success.

use std::{borrow::Cow, collections::VecDeque, convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{
    Event, EventKind,
    job::State,
    reader::{Follower, LOOK_AGAIN},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    answer::{error_body, finished},
    dialect::Dialect,
    pending_call::PendingCall,
    responses::events::Renderer,
};
use crate::{error::ApiError, simulated};

/// The time in which a job may fail with its own HTTP status; less if its client has a shorter time-out.
const OPEN_AFTER: Duration = Duration::from_secs(1);

/// The approximate number of bytes of available events that are sent at once.
const AT_ONCE: usize = 16 << 10;

/// The state of a stream.
struct CallStream {
    pending: PendingCall,
    follower: Follower,
    /// Events that were received before the stream was opened.
    early: VecDeque<Event>,
    next_comment: Instant,
    /// The timer of `next_comment` and of the end of the hold time. Timer and stop signal are created once, since
    /// creating them for each event costs too much.
    alarm: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// True if a part of the answer was sent, which cannot be undone.
    has_sent: bool,
    /// The renderer of a response: its events have their own names and numbers.
    renderer: Option<Renderer>,
    ended: bool,
}

/// Answers with a stream, or with the error of a job that fails at once.
pub(super) async fn respond(mut pending: PendingCall) -> Result<Response, ApiError> {
    let mut follower = pending.follower();
    let open_at = Instant::now() + OPEN_AFTER.min(pending.keep_alive);
    let mut early = VecDeque::new();
    while let Ok(Ok(Some(event))) = timeout_at(open_at, follower.next()).await {
        let has_started = match event.kind {
            EventKind::Queued | EventKind::Started | EventKind::Retrying | EventKind::Reset => {
                false
            }
            EventKind::Delta | EventKind::Succeeded => true,
            EventKind::Failed | EventKind::Cancelled | EventKind::Expired => {
                pending.release();
                let job = pending.job().await?;
                let job = job.ok_or_else(|| ApiError::gone("the job no longer exists"))?;
                return finished(&job, pending.dialect);
            }
        };
        early.push_back(event);
        if has_started {
            break;
        }
    }
    pending.start_answer();
    let renderer = (pending.dialect == Dialect::Responses).then(|| Renderer::after(None));
    Ok(opened(pending, follower, early, renderer))
}

/// Streams the events of an existing response.
pub(super) fn open(mut pending: PendingCall, renderer: Renderer) -> Response {
    let follower = pending.follower();
    opened(pending, follower, VecDeque::new(), Some(renderer))
}

fn opened(
    pending: PendingCall,
    follower: Follower,
    early: VecDeque<Event>,
    renderer: Option<Renderer>,
) -> Response {
    let has_started = early.back().is_some_and(|event| event.kind == EventKind::Delta);
    let is_simulated = early.iter().any(simulated::is_in);
    // A stream that opens without content starts with a comment, so the client sees at once that it is alive.
    let next_comment =
        Instant::now() + if has_started { pending.keep_alive } else { Duration::ZERO };
    let stream = CallStream {
        alarm: Box::pin(sleep_until(next_comment)),
        stopping: Box::pin(pending.state.stopping().cancelled_owned()),
        pending,
        follower,
        early,
        next_comment,
        has_sent: false,
        renderer,
        ended: false,
    };
    let blocks = futures_util::stream::unfold(stream, |mut stream| async move {
        let blocks = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(blocks)), stream))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")];
    let mut response = (headers, Body::from_stream(blocks)).into_response();
    if is_simulated {
        simulated::mark(response.headers_mut());
    }
    response
}

impl CallStream {
    /// Returns the next blocks; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.ended {
                return None;
            }
            let mut blocks = String::new();
            for event in std::mem::take(&mut self.early) {
                blocks += &self.blocks(&event).await;
            }
            if !blocks.is_empty() {
                return Some(blocks);
            }
            let event = tokio::select! {
                // Events first: an answer that is ready must not be lost to a time-out or a stop.
                biased;
                event = self.follower.next() => event,
                () = &mut self.alarm => match self.on_alarm().await {
                    Some(blocks) => return Some(blocks),
                    None => continue,
                },
                () = &mut self.stopping => return Some(self.last_blocks().await),
            };
            match event {
                Ok(Some(event)) => {
                    let blocks = self.blocks_from(event).await;
                    if !blocks.is_empty() {
                        self.next_comment = Instant::now() + self.pending.keep_alive;
                        return Some(blocks);
                    }
                }
                Ok(None) => return Some(self.fail(ApiError::gone("the job no longer exists"))),
                Err(error) => {
                    tracing::debug!(job.id = %self.pending.id(), %error, "a reader waits for the store");
                    // The store may be restarting. The hold time still ends the loop by the alarm.
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Handles the timer: ends a stream whose hold time is over without any answer, or returns a keep-alive
    /// comment. `None` if neither is due.
    async fn on_alarm(&mut self) -> Option<String> {
        let now = Instant::now();
        if !self.has_sent && now >= self.pending.until {
            return Some(match self.pending.job().await {
                Ok(Some(job)) => {
                    let error = self.pending.waited_too_long(&job);
                    self.fail(error)
                }
                Ok(None) => self.fail(ApiError::gone("the job no longer exists")),
                Err(error) => self.fail(error.into()),
            });
        }
        let is_due = now >= self.next_comment;
        if is_due {
            self.next_comment = now + self.pending.keep_alive;
        }
        // Once a part was sent, the hold time no longer applies.
        let end = if self.has_sent { self.next_comment } else { self.pending.until };
        self.alarm.as_mut().reset(self.next_comment.min(end));
        if is_due { Some(self.comment().await) } else { None }
    }

    /// Returns the last blocks when the process stops. The worker of this process may just have ended the job.
    async fn last_blocks(&mut self) -> String {
        let mut blocks = String::new();
        for event in self.follower.known().await.unwrap_or_default() {
            if !self.ended {
                blocks += &self.blocks(&event).await;
            }
        }
        if !self.ended {
            let error = self.pending.stopped();
            blocks += &self.fail(error);
        }
        blocks
    }

    /// Renders an event and the available ones after it.
    async fn blocks_from(&mut self, event: Event) -> String {
        let mut blocks = self.blocks(&event).await;
        // Joining available events saves a write of the socket for each.
        while !self.ended && blocks.len() < AT_ONCE {
            let Some(event) = self.follower.at_hand() else { break };
            blocks += &self.blocks(&event).await;
        }
        blocks
    }

    /// Renders an event.
    async fn blocks(&mut self, event: &Event) -> String {
        if self.renderer.is_some() {
            return self.events(event).await;
        }
        match event.kind {
            EventKind::Queued | EventKind::Started => String::new(),
            EventKind::Delta => {
                self.has_sent = true;
                let chunks: Vec<&RawValue> = event.data.read().unwrap_or_default();
                chunks.iter().map(|chunk| self.block(chunk.get())).collect()
            }
            // Nothing was sent yet, so the next attempt may start from scratch.
            EventKind::Retrying | EventKind::Reset if !self.has_sent => String::new(),
            EventKind::Retrying | EventKind::Reset => {
                let message = "the model's answer broke off after a part of it was sent";
                self.fail(ApiError::upstream(false, message))
            }
            EventKind::Succeeded => {
                self.pending.release();
                self.ended = true;
                match self.pending.dialect {
                    Dialect::OpenAi | Dialect::Responses => "data: [DONE]\n\n".to_owned(),
                    Dialect::Anthropic => String::new(),
                }
            }
            EventKind::Failed | EventKind::Cancelled | EventKind::Expired => {
                self.pending.release();
                let job = self.pending.job().await.ok().flatten();
                match job.as_ref().map_or_else(|| Err(ApiError::unavailable()), error_body) {
                    Ok(error) => self.end(error),
                    Err(error) => self.fail(error),
                }
            }
        }
    }

    /// Renders an event of a response.
    async fn events(&mut self, event: &Event) -> String {
        self.has_sent |= event.kind == EventKind::Delta;
        // Never happens: the caller has checked it.
        let Some(renderer) = &mut self.renderer else { return String::new() };
        let needs_job = renderer.needs_job(event.kind);
        let job = if needs_job { self.pending.job().await.ok().flatten() } else { None };
        if needs_job && job.is_none() {
            return self.fail(ApiError::unavailable());
        }
        let blocks = renderer.blocks(event, job.as_ref());
        self.ended = renderer.has_ended();
        if event.kind.is_last() {
            self.pending.release();
        }
        blocks
    }

    /// Renders one chunk of the upstream.
    fn block(&self, chunk: &str) -> String {
        #[derive(Deserialize)]
        struct ChunkType {
            r#type: String,
        }
        // A line break would end the SSE field. JSON never needs one outside of strings, and escapes it inside.
        let data = match chunk.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            true => Cow::from(chunk.replace(['\n', '\r'], " ")),
            false => Cow::from(chunk),
        };
        match self.pending.dialect {
            Dialect::OpenAi | Dialect::Responses => format!("data: {data}\n\n"),
            Dialect::Anthropic => {
                let name = serde_json::from_str::<ChunkType>(&data).map(|named| named.r#type);
                // A line break in the name would start another field.
                let name = name.unwrap_or_default().replace(['\n', '\r'], " ");
                format!("event: {name}\ndata: {data}\n\n")
            }
        }
    }

    /// Ends the stream with one of our errors.
    fn fail(&mut self, error: ApiError) -> String {
        self.end(self.pending.dialect.shape(error).body())
    }

    /// Ends the stream with an error.
    fn end(&mut self, error: Value) -> String {
        self.ended = true;
        if let Some(renderer) = &mut self.renderer {
            // Responses have an error event of their own form.
            return renderer.interrupt(error["error"]["message"].as_str().unwrap_or_default());
        }
        match self.pending.dialect {
            Dialect::OpenAi | Dialect::Responses => format!("data: {error}\n\n"),
            Dialect::Anthropic => {
                let mut error = error;
                error["type"] = json!("error");
                format!("event: error\ndata: {error}\n\n")
            }
        }
    }

    /// Returns a keep-alive comment, with the position in the queue while the job waits.
    async fn comment(&self) -> String {
        let PendingCall { state, tenant, .. } = &self.pending;
        let job = state.queue.job(tenant, self.pending.id()).await.ok().flatten();
        let waits = job.and_then(|job| match job.state {
            State::Queued { position, estimated_wait_ms, .. } => {
                Some((position, estimated_wait_ms))
            }
            State::Scheduled { .. } => Some((None, None)),
            State::Running { .. } | State::Ended { .. } => None,
        });
        let Some((position, wait)) = waits else { return ": alive\n\n".to_owned() };
        let field = |name: &str, number: Option<u64>| {
            number.map(|number| format!(" {name}={number}")).unwrap_or_default()
        };
        format!(": queued{}{}\n\n", field("position", position), field("wait_ms", wait))
    }
}
