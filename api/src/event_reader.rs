//! The reader of one job's events, independent of the connection.
//!
//! A failing store is read again until it answers. When the process stops, all known events are still returned. The
//! log itself is in the queue.

use std::collections::VecDeque;

use causeway_queue::{
    Event, EventKind, Job, JobId, RawJson, TenantId,
    json::{RawObject, items, repair_surrogates},
    reader::{Follower, LOOK_AGAIN},
};
use tokio_util::sync::CancellationToken;

use crate::{job_view, simulated, state::AppState};

/// A reader of one job's events.
pub(crate) struct JobEventReader {
    follower: Follower,
    state: AppState,
    tenant: TenantId,
    id: JobId,
    stopping: CancellationToken,
    /// The events that were known when the process stopped.
    rest: Option<VecDeque<Event>>,
    ended: bool,
}

impl JobEventReader {
    /// Returns a reader of the events of `job` from number `from` on. The caller must have read the job for its
    /// owner.
    pub(crate) fn new(state: &AppState, job: &Job, from: u64) -> Self {
        Self {
            follower: state.queue.follow(job, from),
            state: state.clone(),
            tenant: job.tenant.clone(),
            id: job.id.clone(),
            stopping: state.handover.clone(),
            rest: None,
            ended: false,
        }
    }

    /// Returns the next event. `None` after the last one, for a deleted job, and once the process has stopped; the
    /// client then reconnects and resumes. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        while !self.ended && self.rest.is_none() {
            let event = tokio::select! {
                event = self.follower.next() => event,
                () = self.stopping.cancelled() => {
                    // The worker of this process may just have ended the job.
                    self.rest = Some(self.follower.known().await.unwrap_or_default().into());
                    break;
                }
            };
            match event {
                Ok(Some(event)) => {
                    self.ended = event.kind.is_last();
                    return Some(event);
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    tracing::debug!(job.id = %self.id, %error, "a reader waits for the store");
                    // The client keeps its connection while the store restarts.
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
        self.rest.as_mut()?.pop_front()
    }

    /// True if the process stopped before the last event.
    pub(crate) fn is_stopped(&self) -> bool {
        self.rest.is_some()
    }

    /// Returns the data of an event, without its kind and number.
    pub(crate) async fn data(&self, event: &Event) -> RawJson {
        match event.kind {
            EventKind::Delta => delta(event),
            EventKind::Queued
            | EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => self.job().await,
            EventKind::Started | EventKind::Retrying | EventKind::Reset => event.data.clone(),
        }
    }

    /// Returns the current job. Events do not contain it.
    async fn job(&self) -> RawJson {
        let job: Option<Job> = self.state.read_job(&self.tenant, &self.id).await.ok().flatten();
        job.as_ref().map(job_view::json).unwrap_or_default()
    }
}

/// Renders a delta: its text, the upstream's chunks unchanged, and the mark of a simulation.
fn delta(event: &Event) -> RawJson {
    let chunks = items(event.data.as_str()).unwrap_or_default();
    let text: String = chunks.into_iter().filter_map(raw_text).collect();
    let text = repair_surrogates(&text);
    let (seq, chunks) = (event.seq, event.data.as_str());
    // Written by hand: parsing and rendering the chunks would change their numbers.
    let mark = if simulated::is_in(event) { r#""simulated":true,"# } else { "" };
    let data = format!(r#"{{"chunks":{chunks},"seq":{seq},{mark}"text":"{text}"}}"#);
    RawJson::parse(data).unwrap_or_default()
}

/// Returns the text of one chunk (chat, completion, response or message) in its JSON encoding. Concatenating
/// encoded texts joins a surrogate pair that was split between two chunks.
fn raw_text(chunk: &str) -> Option<&str> {
    let chunk = RawObject::parse(chunk).ok()?;
    let choice = chunk.get("choices").and_then(items);
    let choice = choice.and_then(|choices| RawObject::parse(choices.first()?).ok());
    let of_choice = choice.and_then(|choice| {
        choice.object("delta").and_then(|delta| delta.get("content")).or(choice.get("text"))
    });
    let of_block = || chunk.object("delta").and_then(|delta| delta.get("text"));
    let text = of_choice.or_else(of_block).or_else(|| chunk.get("delta"))?;
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_keeps_numbers_and_joins_surrogates() {
        let chunks = concat!(
            r#"[{"choices":[{"delta":{"content":"a\ud83d"}}],"n":12345678901234567890123},"#,
            r#"{"choices":[{"delta":{"content":"\ude00 \ud83d"}}]},"#,
            r#"{"delta":{"text":" b"}},{"delta":" c"},{"n":1}]"#,
        );
        let data = RawJson::parse(chunks.to_owned()).unwrap();
        let data = delta(&Event { seq: 7, kind: EventKind::Delta, data });
        assert!(data.as_str().contains(chunks));
        let text = RawObject::parse(data.as_str()).unwrap().text("text");
        assert_eq!(text.as_deref(), Some("a\u{1f600} \u{fffd} b c"));
    }
}
