//! The mark of simulated answers, which must not be taken for a model's.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use causeway_queue::{Event, EventKind, job::Output};
use serde::Deserialize;

/// The header of simulated answers.
const HEADER: HeaderName = HeaderName::from_static("x-causeway-simulated");

/// The part of an answer's id by which the worker's simulation is known in a stream, where the header is sent
/// before the job's output is known.
const IN_ID: &str = "-simulated-";

/// Marks an answer.
pub(crate) fn mark(headers: &mut HeaderMap) {
    headers.insert(HEADER, HeaderValue::from_static("true"));
}

/// Marks the answer of a job with this output if it is simulated.
pub(crate) fn mark_output(headers: &mut HeaderMap, output: Option<&Output>) {
    if output.is_some_and(|output| output.simulated) {
        mark(headers);
    }
}

/// True if `event` carries chunks of a simulated answer.
pub(crate) fn is_in(event: &Event) -> bool {
    #[derive(Default, Deserialize)]
    struct Chunk {
        #[serde(default)]
        id: String,
        /// Of an Anthropic stream's first event.
        message: Option<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        id: String,
    }
    if event.kind != EventKind::Delta || !event.data.as_str().contains(IN_ID) {
        return false;
    }
    let chunks: Vec<Chunk> = event.data.read().unwrap_or_default();
    chunks.iter().any(|chunk| {
        let message = chunk.message.as_ref().is_some_and(|message| message.id.contains(IN_ID));
        message || chunk.id.contains(IN_ID)
    })
}
