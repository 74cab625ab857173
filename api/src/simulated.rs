//! The mark of simulated answers. It keeps them from being taken for those of a model.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use causeway_queue::{
    Event, EventKind, Job,
    job::{Output, State},
};
use serde::Deserialize;

use crate::state::AppState;

/// The header of simulated answers.
const HEADER: HeaderName = HeaderName::from_static("x-causeway-simulated");

/// The part of an answer's id by which a simulated stream is recognised. Its headers are sent before the output of
/// its job is known.
const IN_ID: &str = "-simulated-";

/// Marks an answer as simulated.
pub(crate) fn mark(headers: &mut HeaderMap) {
    headers.insert(HEADER, HeaderValue::from_static("true"));
}

/// Marks the answer of a job if its output is simulated.
pub(crate) fn mark_output(headers: &mut HeaderMap, output: Option<&Output>) {
    if output.is_some_and(|output| output.simulated) {
        mark(headers);
    }
}

/// Marks an answer about a job if the job's output is simulated.
pub(crate) fn mark_job(headers: &mut HeaderMap, job: &Job) {
    if let State::Ended { output, .. } = &job.state {
        mark_output(headers, output.as_ref());
    }
}

/// Marks the event stream of a job. If the job has not ended, this process must know its lane as simulated.
pub(crate) fn mark_events(headers: &mut HeaderMap, state: &AppState, job: &Job) {
    if state.settings.simulated_lanes.contains(&job.id.shard().lane) {
        mark(headers);
    }
    mark_job(headers, job);
}

/// True if `event` contains chunks of a simulated answer.
pub(crate) fn is_in(event: &Event) -> bool {
    #[derive(Default, Deserialize)]
    struct ChunkIds {
        id: Option<String>,
        /// Set in the first event of an Anthropic stream.
        message: Option<ChunkPart>,
        /// Set in an event of a response that adds an output item.
        item: Option<ChunkPart>,
        /// Set in an event of a response about an output item.
        item_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct ChunkPart {
        id: Option<String>,
    }
    if event.kind != EventKind::Delta || !event.data.as_str().contains(IN_ID) {
        return false;
    }
    let chunks: Vec<ChunkIds> = event.data.read().unwrap_or_default();
    chunks.into_iter().any(|chunk| {
        let parts = [chunk.message, chunk.item].into_iter().flatten().filter_map(|part| part.id);
        let ids = [chunk.id, chunk.item_id].into_iter().flatten();
        ids.chain(parts).any(|id| id.contains(IN_ID))
    })
}

#[cfg(test)]
mod tests {
    use causeway_queue::RawJson;
    use serde_json::json;

    use super::*;

    #[test]
    fn any_id_reveals_a_simulation() {
        for (chunk, is_simulated) in [
            (json!({ "id": "chatcmpl-simulated-1" }), true),
            (json!({ "type": "message_start", "message": { "id": "msg-simulated-1" } }), true),
            (json!({ "item": { "id": "msg-simulated-_default_0_1_0", "status": "x" } }), true),
            (json!({ "item_id": "msg-simulated-_default_0_1_0", "delta": "a" }), true),
            (json!({ "item_id": "msg_1", "delta": "-simulated-" }), false),
        ] {
            let data = RawJson::of(&[&chunk]).unwrap();
            let event = Event { seq: 2, kind: EventKind::Delta, data };
            assert_eq!(is_in(&event), is_simulated, "{chunk}");
        }
    }
}
