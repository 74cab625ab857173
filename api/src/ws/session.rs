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
use tokio_util::sync::CancellationToken;

use super::frame::{Asked, Op, Told};
use crate::{
    auth::Caller,
    error::ApiError,
    job_view,
    jobs::{job_id, no_such_job},
    reader::Reader,
    serve::connection::Connection,
    state::AppState,
    submit::{expired, idempotency_key, submit_one},
};

/// Most jobs that one connection follows at once.
pub(crate) const MAX_FOLLOWED: usize = 1000;

/// The session of a client, with the jobs that it follows.
pub(crate) struct Session {
    state: AppState,
    caller: Caller,
    connection: Option<Arc<Connection>>,
    followed: HashMap<JobId, AbortHandle>,
    news: SelectAll<BoxStream<'static, News>>,
}

/// An event of a followed job.
struct News {
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
    pub(super) fn took(&self) {
        if let Some(connection) = &self.connection {
            connection.took();
        }
    }

    /// Returns the token that is cancelled when no more jobs are accepted.
    pub(super) fn draining(&self) -> CancellationToken {
        self.state.draining.clone()
    }

    /// Returns the token that is cancelled when the client must continue at another process.
    pub(super) fn handover(&self) -> CancellationToken {
        self.state.handover.clone()
    }

    /// Completes when the client's key is no longer valid.
    pub(super) fn revoked(&self) -> impl Future<Output = ()> + use<> {
        self.state.tenants.clone().revoked(self.caller.clone())
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
    pub(super) fn is_let_in(&mut self) -> bool {
        let Some(now) = self.state.tenants.again(&self.caller) else { return false };
        self.caller = now;
        true
    }

    /// Executes a frame; returns its answer.
    pub(super) async fn answer(&mut self, frame: &str) -> String {
        let (reference, answered) = match Asked::read(frame) {
            Ok(asked) => (asked.reference.clone(), self.act(asked).await),
            Err(error) => (Asked::name_of(frame), Err(error)),
        };
        let told = answered.unwrap_or_else(|error| Told::error(&error));
        told.answering(reference.as_deref()).text()
    }

    /// Returns the answer to a binary frame.
    pub(super) fn refuse_binary() -> String {
        let message = "frames must be texts; this one is binary";
        Told::error(&ApiError::invalid("invalid_value", message)).text()
    }

    async fn act(&mut self, asked: Asked) -> Result<Told<'static>, ApiError> {
        match asked.op {
            Op::Submit => self.submit(asked).await,
            Op::Follow => self.follow(asked).await,
            Op::Unfollow => {
                let id = named(&asked)?;
                let aborted = self.followed.remove(&id).map(|reader| reader.abort());
                aborted.ok_or_else(|| {
                    let message = format!("this connection does not follow job {id}");
                    ApiError::not_found("not_followed", message)
                })?;
                Ok(Told::new("unfollowed").about(written(&id)))
            }
            Op::Cancel => {
                let id = named(&asked)?;
                let job = self.state.queue.cancel(&self.caller.tenant, &id).await?;
                let job = job.ok_or_else(|| no_such_job(&id.to_string()))?;
                Ok(Told::new("cancelling").about(job_view::json(&job)))
            }
            Op::Ping => Ok(Told::new("pong")),
        }
    }

    async fn submit(&mut self, asked: Asked) -> Result<Told<'static>, ApiError> {
        if self.state.draining.is_cancelled() {
            return Err(ApiError::takes_no_more());
        }
        if asked.follow {
            self.check_room()?;
        }
        let wanted = asked.job.ok_or_else(|| missing("a job as for `POST /v1/jobs`"))?;
        let key = asked.idempotency_key.as_deref().map(idempotency_key).transpose()?;
        let accepted = submit_one(&self.state, &self.caller, wanted.as_str().as_bytes(), key);
        let accepted = accepted.await.map_err(|error| error.within("job"))?;
        let id = accepted.id();
        let found = self.state.look(&self.caller.tenant, id).await;
        let found = found.map_err(|error| ApiError::after_acceptance(error, id));
        let job = match found.and_then(|job| job.ok_or_else(|| expired(id))) {
            Ok(job) => job,
            Err(error) => return Ok(Told::error(&error).about(written(id))),
        };
        if asked.follow {
            self.read(Reader::new(&self.state, &job, 0), id.clone());
        }
        let replayed = Some(matches!(accepted, Accepted::Replayed(_)));
        Ok(Told { replayed, ..Told::new("accepted").about(job_view::json(&job)) })
    }

    /// Follows a job. A job that is already followed starts over.
    async fn follow(&mut self, asked: Asked) -> Result<Told<'static>, ApiError> {
        let id = named(&asked)?;
        if !self.followed.contains_key(&id) {
            self.check_room()?;
        }
        let from = asked.after.map_or(0, |after| u64::from(after) + 1);
        let job = self.state.queue.job(&self.caller.tenant, &id).await?;
        let job = job.ok_or_else(|| no_such_job(&id.to_string()))?;
        self.read(Reader::new(&self.state, &job, from), id.clone());
        Ok(Told::new("following").about(written(&id)))
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

    fn read(&mut self, reader: Reader, id: JobId) {
        let news = stream::unfold(Some((reader, id.clone())), |reading| async move {
            let (mut reader, id) = reading?;
            let Some(event) = reader.next().await else {
                if reader.is_stopped() {
                    return None;
                }
                let gone = ApiError::gone(format!("job {id} no longer exists"));
                let text = Told::error(&gone).about(written(&id)).text();
                return Some((News { id, text, is_last: true }, None));
            };
            let is_last = event.kind.is_last();
            let text = Told::event(&id, &event, reader.told(&event).await).text();
            let news = News { id: id.clone(), text, is_last };
            Some((news, (!is_last).then_some((reader, id))))
        });
        let (news, handle) = stream::abortable(news);
        self.news.push(news.boxed());
        if let Some(former) = self.followed.insert(id, handle) {
            former.abort();
        }
    }
}

fn missing(what: &str) -> ApiError {
    let message = format!("job is missing; it must be {what}");
    ApiError::invalid_param("job", message).with_code("missing_field")
}

/// Returns the job that a frame names.
fn named(asked: &Asked) -> Result<JobId, ApiError> {
    let what = "the id of a job";
    let job = asked.job.as_ref().ok_or_else(|| missing(what))?;
    let text: String = job
        .read()
        .map_err(|_| ApiError::invalid_param("job", format!("job must be {what}, as a string")))?;
    job_id(&text)
}

fn written(id: &JobId) -> RawJson {
    RawJson::of(id).unwrap_or_default()
}
