//! The answer of a pending call: that of the upstream, a reference to the job, or an error.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use causeway_queue::{Job, Status, job::State as JobState};

use super::{
    dialect::Dialect,
    pending_call::{PendingCall, Subscription},
    request::ReplyMode,
    responses::object::{object, skeleton},
};
use crate::{cause, error::ApiError, job_view, jobs::respond, simulated};

impl PendingCall {
    /// Waits for the end of the job; returns the upstream's answer.
    pub(super) async fn answer(mut self) -> Result<Response, ApiError> {
        // The caller does not wait, so there is nothing to subscribe to.
        if self.reply == ReplyMode::JobReference {
            return self.job_reference().await;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id().clone());
        let subscription = std::mem::replace(&mut self.subscription, Subscription::Taken);
        let hold = self.state.settings.hold;
        let ended = async {
            match subscription {
                Subscription::Waiter(waiter) => waiter.wait(hold).await,
                // These have no waiter of their own: the queue registers a new one, and checks the job first.
                Subscription::Existing(_) | Subscription::Follower(_) | Subscription::Taken => {
                    state.queue.wait(&tenant, &id, hold).await
                }
            }
        };
        let found = state.unless_stopped(ended, &tenant, &id).await;
        match state.accepted_job(found, &tenant, &id).await {
            Ok(Some(job)) if job.status().is_terminal() => {
                self.release();
                finished(&job, self.dialect)
            }
            Ok(None) => Err(ApiError::gone(format!("job {id} no longer exists"))),
            // The orphan is stored before the answer is sent, since the retry may arrive right after it.
            Ok(Some(_)) if state.stopping().is_cancelled() => {
                self.retry.keep(&state, &id).await;
                Err(self.stopped())
            }
            Ok(Some(job)) => Err(self.waited_too_long(&job)),
            // The job may still succeed, and a retry of this call attaches to it.
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Returns a reference to the job: 202 and the job, or the response object in its current state.
    async fn job_reference(&mut self) -> Result<Response, ApiError> {
        self.release();
        let job = self.job().await.map_err(|error| self.unreadable(error))?;
        let job =
            job.ok_or_else(|| ApiError::gone(format!("job {} no longer exists", self.id())))?;
        Ok(match self.dialect {
            // A new response is always shown as queued, also if a worker has already started it.
            Dialect::Responses if !matches!(self.subscription, Subscription::Existing(_)) => {
                Json(skeleton(&job, "queued")).into_response()
            }
            Dialect::Responses => Json(object(&job)).into_response(),
            Dialect::OpenAi | Dialect::Anthropic => {
                respond(StatusCode::ACCEPTED, &job_view::json(&job))
            }
        })
    }

    /// Returns the error of a call that ends with its process. Its job continues.
    pub(super) fn stopped(&mut self) -> ApiError {
        // Read before `release`, which clears the expected retry.
        let is_found = self.is_retried() || self.outlives_caller;
        self.release();
        if is_found { ApiError::draining() } else { ApiError::stopped(self.id()) }
    }

    /// Returns the error of a job that has no answer at the end of the hold time. Its client must not retry: that
    /// would only submit the job again.
    pub(super) fn waited_too_long(&mut self, job: &Job) -> ApiError {
        self.start_answer();
        let cause = cause::of(job);
        let then = if self.outlives_caller {
            format!("it continues, poll /v1/jobs/{}", job.id)
        } else {
            "it is cancelled; raise `api.hold`, or send `Prefer: respond-async` to get a job to poll"
                .to_owned()
        };
        ApiError::waited_too_long(&job.id, self.state.settings.hold, cause.as_deref(), &then)
    }

    /// Returns the error of a job that cannot be read. A client that counts its attempts retries and finds it; any
    /// other one gets its id.
    fn unreadable(&mut self, error: causeway_queue::Error) -> ApiError {
        if self.is_retried() {
            return error.into();
        }
        self.release();
        ApiError::after_acceptance(error, self.id())
    }
}

/// Returns the answer of a job that has ended: that of the upstream, or an error.
pub(super) fn finished(job: &Job, dialect: Dialect) -> Result<Response, ApiError> {
    let JobState::Ended { status, output, .. } = &job.state else {
        return Err(ApiError::gone(format!("job {} has not ended", job.id)));
    };
    let output = output.as_ref();
    if let Some(answered) = output.and_then(|output| output.response.as_ref()) {
        let code = StatusCode::from_u16(answered.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
        // A response has ids and times of ours; errors of the upstream stay unchanged.
        if dialect == Dialect::Responses && *status == Status::Succeeded {
            let mut response = Json(object(job)).into_response();
            simulated::mark_output(response.headers_mut(), output);
            return Ok(response);
        }
        let mut response = respond(code, &answered.body);
        simulated::mark_output(response.headers_mut(), output);
        // The worker has already retried what is worth it.
        if !code.is_success() {
            ApiError::forbid_retry(response.headers_mut());
        }
        return Ok(response);
    }
    Err(failure(*status, job))
}

/// Returns the reason why a job that has ended has no answer.
pub(super) fn failure(status: Status, job: &Job) -> ApiError {
    let JobState::Ended { output, .. } = &job.state else { return ApiError::unavailable() };
    let error = output.as_ref().and_then(|output| output.error.as_ref());
    match (status, error) {
        (Status::Expired, _) => {
            let why = job_view::plain_end(job, status).map(|(_, message)| message);
            ApiError::upstream(true, format!("job {}: {}", job.id, why.unwrap_or_default()))
        }
        (_, Some(error)) => ApiError::upstream(error.code == "upstream_timeout", &error.message),
        (_, None) => ApiError::no_result(format!("job {} is {status}: it has no answer", job.id)),
    }
}

/// Returns the upstream's error body, if it is in an error envelope.
pub(super) fn error_body(job: &Job) -> Result<serde_json::Value, ApiError> {
    let JobState::Ended { status, output, .. } = &job.state else {
        return Err(ApiError::unavailable());
    };
    let answered = output.as_ref().and_then(|output| output.response.as_ref());
    let body: Option<serde_json::Value> = answered.and_then(|answer| answer.body.read().ok());
    body.filter(|body| body.get("error").is_some_and(serde_json::Value::is_object))
        .ok_or_else(|| failure(*status, job))
}
