//! The session of a connection: it submits, cancels, and follows many jobs at once.
//!
//! It handles frames, not the socket. The followed jobs are read concurrently. Each reader pauses until its event
//! was sent, and there are at most [`MAX_FOLLOWED`].

use std::{collections::HashMap, sync::Arc};

use causeway_queue::{Accepted, JobId, RawJson};
use futures_util::{
    StreamExt as _,
    stream::{self, AbortHandle, BoxStream, SelectAll},
};

use super::frame::{ClientFrame, Op, ServerFrame};
use crate::{
    caller::Caller,
    error::ApiError,
    event_reader::JobEventReader,
    job_view,
    jobs::{job_id, no_such_job},
    serve::connection::Connection,
    state::AppState,
    submit::{expired, idempotency_key, submit_one},
};

/// Most jobs that one connection follows at once.
pub(crate) const MAX_FOLLOWED: usize = 1000;

/// The session of a client, with the jobs that it follows.
pub(crate) struct Session {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    connection: Option<Arc<Connection>>,
    followed: HashMap<JobId, AbortHandle>,
    news: SelectAll<BoxStream<'static, FollowedEvent>>,
}

/// An event of a followed job.
struct FollowedEvent {
    id: JobId,
    text: String,
    is_last: bool,
}

impl Session {
    /// Returns a session; `connection` is `None` without a socket.
    pub(crate) fn new(
        state: AppState,
        caller: Caller,
        connection: Option<Arc<Connection>>,
    ) -> Self {
        Self { state, caller, connection, followed: HashMap::new(), news: SelectAll::new() }
    }

    /// Records that a message was read from the connection.
    pub(super) fn message_completed(&self) {
        if let Some(connection) = &self.connection {
            connection.message_completed();
        }
    }

    /// True if there are followed jobs.
    pub(super) fn follows(&self) -> bool {
        !self.followed.is_empty()
    }

    /// Returns the next event of the followed jobs; `None` if there are none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<String> {
        let news = self.news.next().await?;
        if news.is_last {
            self.followed.remove(&news.id);
        }
        Some(news.text)
    }

    /// Authenticates the client again, with its present rights; false if its key is no longer valid.
    pub(super) fn reauthenticate(&mut self) -> bool {
        let Some(now) = self.state.tenants.refresh(&self.caller) else { return false };
        self.caller = now;
        true
    }

    /// Executes a frame; returns its answer.
    pub(super) async fn answer(&mut self, frame: &str) -> String {
        let (reference, answered) = match ClientFrame::read(frame) {
            Ok(frame) => (frame.reference.clone(), self.act(frame).await),
            Err(error) => (ClientFrame::name_of(frame), Err(error)),
        };
        let answer = answered.unwrap_or_else(|error| ServerFrame::error(&error));
        answer.answering(reference.as_deref()).text()
    }

    /// Returns the answer to a binary frame.
    pub(super) fn refuse_binary() -> String {
        let message = "frames must be texts; this one is binary";
        ServerFrame::error(&ApiError::invalid("invalid_value", message)).text()
    }

    async fn act(&mut self, frame: ClientFrame) -> Result<ServerFrame<'static>, ApiError> {
        match frame.op {
            Op::Submit => self.submit(frame).await,
            Op::Follow => self.follow(frame).await,
            Op::Unfollow => {
                let id = named(&frame)?;
                let aborted = self.followed.remove(&id).map(|reader| reader.abort());
                aborted.ok_or_else(|| {
                    let message = format!("this connection does not follow job {id}");
                    ApiError::not_found("not_followed", message)
                })?;
                Ok(ServerFrame::new("unfollowed").about(written(&id)))
            }
            Op::Cancel => {
                let id = named(&frame)?;
                let job = self.state.queue.cancel(&self.caller.tenant, &id).await?;
                let job = job.ok_or_else(|| no_such_job(&id.to_string()))?;
                Ok(ServerFrame::new("cancelling").about(job_view::json(&job)))
            }
            Op::Ping => Ok(ServerFrame::new("pong")),
        }
    }

    async fn submit(&mut self, frame: ClientFrame) -> Result<ServerFrame<'static>, ApiError> {
        if self.state.draining.is_cancelled() {
            return Err(ApiError::accepts_no_more());
        }
        if frame.follow {
            self.check_room()?;
        }
        let job = frame.job.ok_or_else(|| missing("a job as for `POST /v1/jobs`"))?;
        let key = frame.idempotency_key.as_deref().map(idempotency_key).transpose()?;
        let accepted = submit_one(&self.state, &self.caller, job.as_str().as_bytes(), key);
        let accepted = accepted.await.map_err(|error| error.within("job"))?;
        let id = accepted.id();
        // The job is accepted: from here on, each error must name it.
        let found = self.state.read_job(&self.caller.tenant, id).await;
        let found = found.map_err(|error| ApiError::after_acceptance(error, id));
        let job = match found.and_then(|job| job.ok_or_else(|| expired(id))) {
            Ok(job) => job,
            Err(error) => return Ok(ServerFrame::error(&error).about(written(id))),
        };
        if frame.follow {
            self.read(JobEventReader::new(&self.state, &job, 0), id.clone());
        }
        let replayed = Some(matches!(accepted, Accepted::Replayed(_)));
        Ok(ServerFrame { replayed, ..ServerFrame::new("accepted").about(job_view::json(&job)) })
    }

    /// Follows a job. A job that is already followed starts over.
    async fn follow(&mut self, frame: ClientFrame) -> Result<ServerFrame<'static>, ApiError> {
        let id = named(&frame)?;
        if !self.followed.contains_key(&id) {
            self.check_room()?;
        }
        let from = frame.after.map_or(0, |after| u64::from(after) + 1);
        let job = self.state.queue.job(&self.caller.tenant, &id).await?;
        let job = job.ok_or_else(|| no_such_job(&id.to_string()))?;
        self.read(JobEventReader::new(&self.state, &job, from), id.clone());
        Ok(ServerFrame::new("following").about(written(&id)))
    }

    fn check_room(&self) -> Result<(), ApiError> {
        if self.followed.len() < MAX_FOLLOWED {
            return Ok(());
        }
        let message = format!(
            "this connection follows {MAX_FOLLOWED} jobs, which is the limit; unfollow some, or \
             open another"
        );
        Err(ApiError::invalid("too_many_followed", message))
    }

    fn read(&mut self, reader: JobEventReader, id: JobId) {
        let news = stream::unfold(Some((reader, id.clone())), |reading| async move {
            let (mut reader, id) = reading?;
            let Some(event) = reader.next().await else {
                // No error: the connection is about to close with the reason.
                if reader.is_stopped() {
                    return None;
                }
                let gone = ApiError::gone(format!("job {id} no longer exists"));
                let text = ServerFrame::error(&gone).about(written(&id)).text();
                return Some((FollowedEvent { id, text, is_last: true }, None));
            };
            let is_last = event.kind.is_last();
            let text = ServerFrame::event(&id, &event, reader.data(&event).await).text();
            let news = FollowedEvent { id: id.clone(), text, is_last };
            Some((news, (!is_last).then_some((reader, id))))
        });
        let (news, handle) = stream::abortable(news);
        self.news.push(news.boxed());
        if let Some(former) = self.followed.insert(id, handle) {
            // Following again replaces the former reader, so the client receives each event once.
            former.abort();
        }
    }
}

fn missing(what: &str) -> ApiError {
    let message = format!("job is missing; it must be {what}");
    ApiError::invalid_param("job", message).with_code("missing_field")
}

/// Returns the job that a frame names.
fn named(frame: &ClientFrame) -> Result<JobId, ApiError> {
    let what = "the id of a job";
    let job = frame.job.as_ref().ok_or_else(|| missing(what))?;
    let text: String = job
        .read()
        .map_err(|_| ApiError::invalid_param("job", format!("job must be {what}, as a string")))?;
    job_id(&text)
}

fn written(id: &JobId) -> RawJson {
    RawJson::of(id).unwrap_or_default()
}
