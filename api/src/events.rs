//! `GET /v1/jobs/{id}/events`: the events of a job as a resumable SSE stream.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::Event;
use futures_util::stream;
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::{
    caller::Caller,
    error::ApiError,
    event_reader::JobEventReader,
    extract::Segment,
    jobs::{QueryResult, job_id, name_job, no_such_job, owner, query},
    openapi::schema,
    simulated,
    state::AppState,
};

/// Highest event number that a client may resume after.
pub(crate) const MAX_SEQ: u64 = u32::MAX as u64;

/// The last lines of a stream that ends before its job because the process stops: the client reconnects after 500
/// ms.
const RESUME: &str = "retry: 500\n\n";

schema::types! {
    /// The number of an event.
    Seq: schema::number(0, MAX_SEQ);
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Resume {
    /// The number of the last event that you have.
    #[param(value_type = Option<Seq>, inline)]
    after: Option<String>,
}

/// Streams the events of a job as server-sent events.
///
/// `job.queued`, `job.started`, `output.delta`, `job.retrying`, `output.reset` (a new attempt begins: drop the text so
/// far), `ping`, and last one of `job.succeeded`, `job.failed`, `job.cancelled`, `job.expired`.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs", operation_id = "followJob",
    params(("id" = String, Path, description = "The job's id"), Resume,
        ("Last-Event-ID" = inline(Seq), Header, description = "The same")),
    responses((status = 200, description = "The events, as they happen", content_type = "text/event-stream"),
        (status = 204, description = "The job has ended, and you have its last event")))]
pub(crate) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    resume: QueryResult<Resume>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = query(resume)?.after.map(|text| next_after("after", &text)).transpose()?;
    // Some clients send an empty header on their first connect.
    let last = headers.get("last-event-id").filter(|value| !value.is_empty());
    let last = last.map(|value| value.to_str().unwrap_or("?"));
    let last = last.map(|text| next_after("Last-Event-ID", text)).transpose()?;
    // An EventSource reconnects to its original address, and names its latest event in the header only.
    let from = after.max(last).unwrap_or(0);
    let key = job_id(&id)?;
    let job = state.queue.job(&owner(&state, &caller, &key).await?, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    // A client that has the last event already must not receive an empty stream.
    if from > 0
        && job.status().is_terminal()
        && state.queue.follow(&job, from).known().await?.is_empty()
    {
        // After any other status, an EventSource would reconnect forever.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    let mut response = headers.into_response();
    name_job(response.headers_mut(), &job.id);
    simulated::mark_events(response.headers_mut(), &state, &job);
    let reader = JobEventReader::new(&state, &job, from);
    let ping = state.settings.ping;
    let blocks = stream::unfold(Some(reader), move |reader| async move {
        let mut reader = reader?;
        let (block, continues) = match timeout(ping, reader.next()).await {
            // Without an `id`, so a browser does not take the ping for its latest event.
            Err(_) => ("event: ping\ndata: {}\n\n".to_owned(), true),
            Ok(Some(event)) => (block(&reader, &event).await, true),
            Ok(None) if reader.is_stopped() => (RESUME.to_owned(), false),
            Ok(None) => return None,
        };
        Some((Ok::<Bytes, Infallible>(Bytes::from(block)), continues.then_some(reader)))
    });
    *response.body_mut() = Body::from_stream(blocks);
    Ok(response)
}

fn next_after(param: &str, text: &str) -> Result<u64, ApiError> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= MAX_SEQ);
    // Numbers are those of received events, so the stream starts with the next one.
    number.map(|number| number + 1).ok_or_else(|| {
        let message = format!("the event to resume after must be a number; it is {text:?}");
        ApiError::invalid_param(param, message)
    })
}

async fn block(reader: &JobEventReader, event: &Event) -> String {
    // A line break would end the SSE field. JSON never needs one outside of strings, and escapes it inside.
    let data = reader.data(event).await.as_str().replace(['\n', '\r'], " ");
    format!("event: {}\nid: {}\ndata: {data}\n\n", event.kind.as_str(), event.seq)
}
