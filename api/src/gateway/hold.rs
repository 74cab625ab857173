//! A call while it is held: its job is accepted, its caller waits.
//!
//! A caller that goes away cancels its job: at once where it does not retry, and otherwise when it has not
//! retried in time. A job that was found by its idempotency key may have other callers, of which nothing is known
//! here: a caller that leaves does not cancel it.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use causeway_queue::{
    Accepted, Error, Job, JobId, NewJob, Status, TenantId,
    job::State as JobState,
    reader::{Follower, Waiter},
};

use super::{
    Dialect,
    request::{Asked, Reply},
    responses, retry,
    retry::Retry,
};
use crate::{cause, error::ApiError, job_view, jobs::respond, simulated, state::AppState};

/// A call whose job is accepted, or about to be. Dropped before its end, it leaves the job to its caller's retry,
/// or cancels it.
pub(super) struct Held {
    pub(super) state: AppState,
    pub(super) tenant: TenantId,
    pub(super) dialect: Dialect,
    id: JobId,
    ear: Ear,
    patience: Duration,
    reply: Reply,
    /// Whether nothing is left to do for the caller.
    is_over: bool,
    /// Whether the job goes on when its caller goes away for good.
    stays: bool,
    retry: Retry,
}

/// How its end is heard of.
enum Ear {
    /// Since before the job was there.
    Waiter(Waiter),
    Follower(Box<Follower>),
    /// Somebody made the job before.
    Late(Box<Job>),
    Taken,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id.clone());
        let (retry, stays) = (std::mem::replace(&mut self.retry, Retry::Never), self.stays);
        self.state.errands.spawn(async move {
            if let Err(error) = retry.after(&state, &tenant, &id, stays).await {
                tracing::info!(job.id = %id, %error, "cannot cancel the job of a client that left");
            }
        });
    }
}

impl Held {
    /// Accepts the job, or finds the one of an earlier attempt.
    pub(super) async fn submit(
        state: &AppState,
        tenant: TenantId,
        asked: Asked,
        dialect: Dialect,
    ) -> Result<Self, ApiError> {
        let Asked { job, reply, patience, stays, retry, is_retry } = asked;
        let queue = &state.queue;
        let ear = if reply == Reply::Stream {
            Ear::Follower(Box::new(queue.follow_new(&job.id)))
        } else {
            Ear::Waiter(queue.waiter(&tenant, &job.id))
        };
        let (id, state) = (job.id.clone(), state.clone());
        let stays = stays || reply == Reply::Place;
        // Made before the job is: a client may leave, and an answer of the store be lost, at any time.
        let is_over = false;
        let mut held =
            Self { state, tenant, dialect, id, ear, patience, reply, is_over, stays, retry };
        if is_retry && held.adopt().await? {
            return Ok(held);
        }
        match held.accept(job).await {
            Ok(true) => Ok(held),
            Ok(false) => {
                let message = format!("job {} was accepted before; its result is gone", held.id);
                Err(ApiError::gone(message))
            }
            Err(error) => {
                // Where the store gave no answer the job may be there all the same.
                if !matches!(error, Error::Unavailable(_)) {
                    held.release();
                }
                Err(error.into())
            }
        }
    }

    /// Takes an orphan of an equal call over. False: there is none that can still answer.
    async fn adopt(&mut self) -> Result<bool, ApiError> {
        let Retry::Counted(call, _) = &self.retry else { return Ok(false) };
        let (call, drafted) = (call.clone(), self.id.clone());
        while let Some(orphan) = self.state.queue.take_orphan(drafted.shard(), &call).await? {
            self.id = orphan;
            // A job that was cancelled, as its client seemed gone, is no answer to one that retries.
            if let Some(job) = self.job().await?.filter(|job| !has_no_answer(job)) {
                self.ear = Ear::Late(Box::new(job));
                return Ok(true);
            }
        }
        self.id = drafted;
        Ok(false)
    }

    /// Accepts the job, or finds the one that has its idempotency key. False: that one is forgotten.
    async fn accept(&mut self, job: NewJob) -> Result<bool, Error> {
        let accepted = self.state.queue.submit(vec![job]).await?.remove(0);
        let Accepted::Replayed(known) = accepted else { return Ok(true) };
        self.id = known;
        // It may have other callers, of which nothing is known here.
        self.release();
        let Some(found) = self.job().await? else { return Ok(false) };
        retry::claim(&self.state, &self.tenant, &self.id).await?;
        self.ear = Ear::Late(Box::new(found));
        Ok(true)
    }

    /// A call that comes to a job which is there and goes on without it.
    pub(super) fn attached(state: &AppState, tenant: TenantId, job: Job, dialect: Dialect) -> Self {
        Self {
            state: state.clone(),
            tenant,
            dialect,
            id: job.id.clone(),
            ear: Ear::Late(Box::new(job)),
            patience: Duration::ZERO,
            reply: Reply::Stream,
            is_over: true,
            stays: true,
            retry: Retry::Never,
        }
    }

    /// The job.
    pub(super) fn id(&self) -> &JobId {
        &self.id
    }

    /// The call is over, or its job shall go on without it.
    pub(super) fn release(&mut self) {
        self.is_over = true;
    }

    /// The answer begins: its client will not ask for it again.
    pub(super) fn begin(&mut self) {
        self.retry = Retry::Never;
    }

    /// Waits for the end; answers as the upstream did.
    pub(super) async fn answer(mut self) -> Result<Response, ApiError> {
        if self.reply == Reply::Place {
            return self.told_where().await;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id.clone());
        let ear = std::mem::replace(&mut self.ear, Ear::Taken);
        let patience = self.patience;
        let ended = async {
            match ear {
                Ear::Waiter(waiter) => waiter.wait(patience).await,
                Ear::Late(_) | Ear::Follower(_) | Ear::Taken => {
                    state.queue.wait(&tenant, &id, patience).await
                }
            }
        };
        let waited = state.unless_stopped(ended, &tenant, &id).await;
        match waited {
            Ok(Some(job)) if job.status().is_terminal() => {
                self.release();
                finished(&job, self.dialect)
            }
            Ok(None) => Err(ApiError::gone(format!("job {id} is gone"))),
            Ok(Some(_)) if state.stopping().is_cancelled() => {
                self.retry.keep(&state, &id).await;
                self.release();
                Err(ApiError::draining())
            }
            Ok(Some(job)) => {
                self.begin();
                let cause = cause::of(&state.queue, &job).await;
                Err(ApiError::waited_too_long(&id, patience, cause.as_deref()))
            }
            Err(error) => {
                // The job may well succeed: a retry of this call finds it.
                if !matches!(self.retry, Retry::Counted(..)) {
                    self.release();
                }
                Err(error.into())
            }
        }
    }

    /// Where to look: 202 and the job, or the response as it is now.
    async fn told_where(&mut self) -> Result<Response, ApiError> {
        let job = self.state.queue.job(&self.tenant, &self.id).await?;
        self.release();
        let job = job.ok_or_else(|| ApiError::gone(format!("job {} is gone", self.id)))?;
        Ok(match self.dialect {
            // However fast a worker was: as it was accepted.
            Dialect::Responses if !matches!(self.ear, Ear::Late(_)) => {
                Json(responses::object::skeleton(&job, "queued")).into_response()
            }
            Dialect::Responses => Json(responses::object::object(&job)).into_response(),
            Dialect::OpenAi | Dialect::Anthropic => {
                respond(StatusCode::ACCEPTED, &job_view::json(&job))
            }
        })
    }

    /// Whoever reads the events from the first one on.
    pub(super) fn follower(&mut self) -> Follower {
        match std::mem::replace(&mut self.ear, Ear::Taken) {
            Ear::Follower(follower) => *follower,
            Ear::Late(job) => self.state.queue.follow(&job, 0),
            Ear::Waiter(_) | Ear::Taken => self.state.queue.follow_new(&self.id),
        }
    }

    /// The job as it is now.
    pub(super) async fn job(&self) -> Result<Option<Job>, Error> {
        self.state.queue.job(&self.tenant, &self.id).await
    }
}

/// True if the job was ended, or is being ended, without its upstream.
fn has_no_answer(job: &Job) -> bool {
    matches!(job.status(), Status::Cancelled | Status::Expired)
        || matches!(job.state, JobState::Running { cancelling: true })
}

/// The answer of a job that has ended: the upstream's, or why there is none.
pub(super) fn finished(job: &Job, dialect: Dialect) -> Result<Response, ApiError> {
    let JobState::Ended { status, output, .. } = &job.state else {
        return Err(ApiError::gone(format!("job {} has not ended", job.id)));
    };
    let output = output.as_ref();
    if let Some(answered) = output.and_then(|output| output.response.as_ref()) {
        let code = StatusCode::from_u16(answered.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
        if dialect == Dialect::Responses && *status == Status::Succeeded {
            let mut response = Json(responses::object::object(job)).into_response();
            simulated::mark_output(response.headers_mut(), output);
            return Ok(response);
        }
        let mut response = respond(code, &answered.body);
        simulated::mark_output(response.headers_mut(), output);
        if !code.is_success() {
            ApiError::is_final(response.headers_mut());
        }
        return Ok(response);
    }
    Err(failure(*status, job))
}

/// Why a job that has ended has no answer.
pub(super) fn failure(status: Status, job: &Job) -> ApiError {
    let JobState::Ended { output, .. } = &job.state else { return ApiError::unavailable() };
    let error = output.as_ref().and_then(|output| output.error.as_ref());
    match (status, error) {
        (_, Some(error)) => ApiError::upstream(error.code == "upstream_timeout", &error.message),
        (Status::Expired, None) => {
            let why = job_view::plain_end(job, status).map(|(_, message)| message);
            ApiError::upstream(true, format!("job {}: {}", job.id, why.unwrap_or_default()))
        }
        (_, None) => ApiError::no_result(format!("job {} is {status}: it has no answer", job.id)),
    }
}

/// The error of a job that has ended: what the upstream said, where it said it in an envelope.
pub(super) fn said(job: &Job) -> Result<serde_json::Value, ApiError> {
    let JobState::Ended { status, output, .. } = &job.state else {
        return Err(ApiError::unavailable());
    };
    let answered = output.as_ref().and_then(|output| output.response.as_ref());
    let said: Option<serde_json::Value> = answered.and_then(|answer| answer.body.read().ok());
    said.filter(|body| body.get("error").is_some_and(serde_json::Value::is_object))
        .ok_or_else(|| failure(*status, job))
}
