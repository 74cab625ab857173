//! A call while it is held: its job is accepted, its caller waits.
//!
//! A caller that goes away cancels its job: at once where it cannot come again, and otherwise when
//! it has not come again in time. A job that was found by a later try may have other callers, of
//! whom nothing is known here: it is no longer cancelled by one that leaves.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use causeway_queue::{
    Accepted, Error, Job, JobId, NewJob, Status, TenantId,
    job::State as JobState,
    limits::Rate,
    reader::{Follower, Waiter},
};

use super::{
    Dialect,
    request::{Asked, Reply},
    responses,
};
use crate::{error::ApiError, job_view, jobs::respond, state::AppState};

/// A call whose job is accepted. Dropped before its end, it cancels the job.
pub(super) struct Held {
    pub(super) state: AppState,
    pub(super) tenant: TenantId,
    pub(super) dialect: Dialect,
    id: JobId,
    ear: Ear,
    patience: Duration,
    reply: Reply,
    is_armed: bool,
    /// How long its client, if it leaves now, may take to come again.
    comes_again: Duration,
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
        if !self.is_armed || self.state.stopping().is_cancelled() {
            return;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id.clone());
        let comes_again = self.comes_again;
        self.state.errands.spawn(async move {
            if let Err(error) = left(&state, &tenant, &id, comes_again).await {
                tracing::info!(job.id = %id, %error, "cannot cancel the job of a client that left");
            }
        });
    }
}

/// Cancels the job of a client that left, unless it comes again in time.
async fn left(
    state: &AppState,
    tenant: &TenantId,
    id: &JobId,
    comes_again: Duration,
) -> Result<(), Error> {
    if !comes_again.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(comes_again) => {}
            // It will come again to another process.
            () = state.stopping().cancelled_owned() => return Ok(()),
        }
        if !is_unclaimed(state, tenant, id).await? {
            return Ok(());
        }
    }
    tracing::debug!(job.id = %id, "the client went away; its job is cancelled");
    state.queue.cancel(tenant, id).await.map(drop)
}

/// Whether nobody has asked this of the job before: neither a later try that found it, nor the
/// process that its first try has left.
async fn is_unclaimed(state: &AppState, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
    let once = Rate { limit: 1, window: state.settings.hold };
    Ok(state.queue.throttle(tenant, &format!("again:{id}"), once).await?.allowed)
}

impl Held {
    /// Accepts the job, or finds the one that an earlier try made.
    pub(super) async fn submit(
        state: &AppState,
        tenant: TenantId,
        asked: Asked,
        dialect: Dialect,
    ) -> Result<Self, ApiError> {
        let Asked { mut job, reply, patience, stays, is_named, comes_again } = asked;
        let mut is_armed = !stays && reply != Reply::Place;
        let queue = &state.queue;
        let mut ear = if reply == Reply::Stream {
            Ear::Follower(Box::new(queue.follow_new(&job.id)))
        } else {
            Ear::Waiter(queue.waiter(&tenant, &job.id))
        };
        let mut id = job.id.clone();
        // A job that was cancelled, as its client seemed gone, is no answer to one that came again.
        let mut again = (!is_named).then(|| job.clone());
        loop {
            let accepted = submit(state, job).await?;
            let Accepted::Replayed(known) = accepted else { break };
            let found = queue.job(&tenant, &known).await?;
            let ended_alone = |job: &Job| {
                let status = job.status();
                matches!(status, Status::Cancelled | Status::Expired) || is_cancelling(job)
            };
            match (found.filter(|job| is_named || !ended_alone(job)), again.take()) {
                (Some(found), _) => {
                    is_unclaimed(state, &tenant, &known).await?;
                    is_armed = false;
                    id = known;
                    ear = Ear::Late(Box::new(found));
                    break;
                }
                (None, Some(mut anew)) => {
                    anew.idempotency.iter_mut().for_each(|one| one.renews = true);
                    job = anew;
                }
                (None, None) => {
                    let message = format!("job {known} was accepted before; its result is gone");
                    return Err(ApiError::gone(message));
                }
            }
        }
        let state = state.clone();
        Ok(Self { state, tenant, dialect, id, ear, patience, reply, is_armed, comes_again })
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
            is_armed: false,
            comes_again: Duration::ZERO,
        }
    }

    /// The job.
    pub(super) fn id(&self) -> &JobId {
        &self.id
    }

    /// The call is over, or its job shall go on without it.
    pub(super) fn release(&mut self) {
        self.is_armed = false;
    }

    /// The answer begins: its client will not ask for it again.
    pub(super) fn begin(&mut self) {
        self.comes_again = Duration::ZERO;
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
            Ok(Some(_)) if state.stopping().is_cancelled() => Err(ApiError::draining()),
            Ok(Some(_)) => {
                self.begin();
                Err(ApiError::waited_too_long(&id, patience))
            }
            Err(error) => {
                // The job may well succeed: the next try of this call finds it.
                self.release();
                Err(error.into())
            }
        }
    }

    /// Where to look: 202 and the job, or the response as it is now.
    async fn told_where(&self) -> Result<Response, ApiError> {
        let job = self.state.queue.job(&self.tenant, &self.id).await?;
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

async fn submit(state: &AppState, job: NewJob) -> Result<Accepted, ApiError> {
    Ok(state.queue.submit(vec![job]).await?.remove(0))
}

fn is_cancelling(job: &Job) -> bool {
    matches!(job.state, JobState::Running { cancelling: true })
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
            return Ok(Json(responses::object::object(job)).into_response());
        }
        let mut response = respond(code, &answered.body);
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
