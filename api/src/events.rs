//! `GET /v1/jobs/{id}/events`: what happens to a job, as server-sent events that can be resumed.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{Event, EventKind, Job, JobId, Queue, RawJson, TenantId, reader::Follower};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Caller,
    error::ApiError,
    job_view,
    jobs::{job_id, no_such_job},
    state::AppState,
};

/// How long to wait before a store that failed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    after: Option<String>,
}

/// Streams the events of a job from the beginning, or after the one that the client has.
pub(crate) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    resume: Result<Query<Resume>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(resume) = resume.map_err(|rejection| {
        ApiError::invalid("invalid_query", format!("the query does not fit: {rejection}"))
    })?;
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let from = match resume.after.or(last) {
        None => 0,
        Some(text) => next_after(&text)?,
    };
    let job = state.queue.job(&caller.tenant, &job_id(&id)?).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    let follower = state.queue.follow(&job, from);
    let reader = Reader {
        follower,
        queue: state.queue.clone(),
        tenant: caller.tenant,
        id: job.id,
        ping: state.settings.ping,
        stopping: state.stopping(),
        ended: false,
    };
    let blocks = stream::unfold(reader, |mut reader| async move {
        let block = reader.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(block)), reader))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(blocks)).into_response())
}

fn next_after(text: &str) -> Result<u64, ApiError> {
    let number = text.parse::<u64>().ok().and_then(|number| number.checked_add(1));
    number.filter(|number| *number < 1 << 32).ok_or_else(|| {
        let message = format!("the event to go on after must be its number; it is {text:?}");
        ApiError::invalid_param("after", message)
    })
}

/// A client that reads the events of one job.
struct Reader {
    follower: Follower,
    queue: Queue,
    tenant: TenantId,
    id: JobId,
    ping: Duration,
    stopping: CancellationToken,
    ended: bool,
}

impl Reader {
    /// The next block; `None` at the end. A client of a server that stops comes again and resumes.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.ended {
                return None;
            }
            let event = tokio::select! {
                event = timeout(self.ping, self.follower.next()) => event,
                () = self.stopping.cancelled() => {
                    self.ended = true;
                    return self.rest().await;
                }
            };
            match event {
                Err(_) => return Some("event: ping\ndata: {}\n\n".to_owned()),
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(event))) => {
                    self.ended = event.kind.is_last();
                    return Some(self.block(&event).await);
                }
                Ok(Err(error)) => {
                    tracing::debug!(job.id = %self.id, %error, "a reader waits for the store");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// What is left to tell when the process stops: its worker may just have ended the job.
    async fn rest(&mut self) -> Option<String> {
        let mut told = String::new();
        for event in self.follower.known().await.ok()? {
            told += &self.block(&event).await;
        }
        Some(told).filter(|told| !told.is_empty())
    }

    async fn block(&self, event: &Event) -> String {
        let data = match event.kind {
            EventKind::Delta => delta(event),
            EventKind::Queued
            | EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => self.job().await,
            EventKind::Started | EventKind::Retrying | EventKind::Reset => event.data.clone(),
        };
        // A line end inside the data would end the field: JSON has none that it needs.
        let data = data.as_str().replace(['\n', '\r'], " ");
        format!("event: {}\nid: {}\ndata: {data}\n\n", event.kind.as_str(), event.seq)
    }

    /// The job as it is now: events never carry it.
    async fn job(&self) -> RawJson {
        let job: Option<Job> = self.queue.job(&self.tenant, &self.id).await.ok().flatten();
        job.as_ref().map(job_view::json).unwrap_or_default()
    }
}

/// A piece of the answer: its text, and the chunks as the upstream sent them.
fn delta(event: &Event) -> RawJson {
    let chunks: Vec<Value> = event.data.read().unwrap_or_default();
    let text: String = chunks.iter().filter_map(text).collect();
    let data = json!({ "seq": event.seq, "text": text, "chunks": event.data });
    RawJson::of(&data).unwrap_or_default()
}

/// The text of one chunk: of a chat, of a completion, of a response, of a message.
fn text(chunk: &Value) -> Option<&str> {
    let choice = chunk.get("choices").and_then(|choices| choices.get(0));
    let of_choice =
        choice.and_then(|choice| choice.pointer("/delta/content").or_else(|| choice.get("text")));
    let of_event = || chunk.pointer("/delta/text").or_else(|| chunk.get("delta"));
    of_choice.or_else(of_event)?.as_str()
}
