//! The JSON of a job. It is independent of the stored form.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use causeway_queue::{
    Class, Job, JobId, RawJson, Status, TenantId, WaitingFor,
    headers::Headers,
    job::{AttemptError, ChargedTo, FailedAttempt, Response, State, code_of_plain_end},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{moment::moment, openapi::schema, waiting_view::WaitingView};

/// A job. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job, examples(json!({
    "id": "job_default_0_01m8548n41e7s9rp8k6v2j5x50", "object": "job", "status": "succeeded",
    "lane": "default", "class": "standard", "session": null, "url": "/v1/chat/completions",
    "model": "default", "attempts": 1, "max_attempts": 5, "stalls": 0,
    "created_at": "2026-11-23T20:00:00.000Z", "scheduled_for": null,
    "started_at": "2026-11-23T20:00:00.004Z", "finished_at": "2026-11-23T20:00:01.470Z",
    "expires_at": null, "position": null, "estimated_wait_ms": null, "waiting_for": null,
    "cancelling": false,
    "response": {"status_code": 200, "body": {"choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Rhine, Nile, Amazon"}}]}},
    "error": null, "usage": {"prompt_tokens": 16, "completion_tokens": 7, "total_tokens": 23},
    "simulated": false, "attempt_errors": [], "metadata": {"order": "17"}, "webhook": null})))]
pub(crate) struct JobView<'a> {
    id: String,
    /// Always `job`.
    object: &'static str,
    /// The owner.
    #[schema(value_type = String)]
    tenant: &'a TenantId,
    #[schema(value_type = schema::StatusName, inline)]
    status: Status,
    lane: &'a str,
    #[schema(value_type = schema::ClassName, inline)]
    class: Class,
    session: Option<&'a str>,
    /// The endpoint of the upstream.
    url: &'a str,
    model: Option<&'a str>,
    /// Number of attempts so far.
    attempts: u32,
    max_attempts: u32,
    /// Number of workers that were lost while they ran it.
    stalls: u32,
    #[schema(format = DateTime)]
    created_at: String,
    /// The time of its next start, if it waits for `schedule` or `retry`. Unknown while anything else blocks it,
    /// such as a pause or an upstream that is down.
    #[schema(format = DateTime)]
    scheduled_for: Option<String>,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// The deadline.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Number of jobs of its flow that start before it.
    position: Option<u64>,
    /// The estimated wait by the measured drain rate and the limits. Null without a recent measurement, in a pause,
    /// and without a live worker of its lane.
    estimated_wait_ms: Option<u64>,
    /// The reason why it waits.
    #[schema(schema_with = schema::waiting_for)]
    waiting_for: Option<&'static str>,
    /// Details of that reason.
    waiting_details: Option<WaitingView>,
    /// True if it is running and being cancelled.
    cancelling: bool,
    response: Option<ResponseView<'a>>,
    /// The reason why it has no answer.
    error: Option<ErrorView<'a>>,
    usage: Option<UsageView>,
    /// True if a simulation answered instead of a model.
    simulated: bool,
    /// The latest 20 failed attempts that did not end the job, the oldest first.
    attempt_errors: Vec<AttemptView<'a>>,
    metadata: &'a BTreeMap<String, String>,
    /// The receiver of its webhook event.
    webhook: Option<WebhookView<'a>>,
}

/// The optional parts of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobIncluded)]
pub(crate) struct IncludedView<'a> {
    /// The submitted request, with `include=request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView<'a>>,
}

/// A job with its optional parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShownView<'a> {
    #[serde(flatten)]
    job: JobView<'a>,
    #[serde(flatten)]
    included: IncludedView<'a>,
}

/// The submitted request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubmittedRequest)]
struct RequestView<'a> {
    /// The endpoint of the upstream.
    url: &'a str,
    /// Further headers that the upstream receives.
    #[schema(schema_with = schema::headers)]
    headers: &'a Headers,
    /// The submitted body; null once the job has succeeded, because it is stored for further attempts only.
    #[schema(schema_with = schema::anything)]
    body: Option<RawJson>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobWebhook)]
struct WebhookView<'a> {
    url: &'a str,
}

/// The answer of the upstream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobResponse)]
struct ResponseView<'a> {
    status_code: u16,
    /// The body as the upstream sent it.
    #[schema(schema_with = schema::anything)]
    body: &'a RawJson,
}

/// The error of a job, or of one of its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobError)]
pub(crate) struct ErrorView<'a> {
    code: &'a str,
    message: Cow<'a, str>,
    attempt: Option<u32>,
    status_code: Option<u16>,
}

/// A failed attempt that did not end the job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobAttempt)]
struct AttemptView<'a> {
    /// The number of the attempt. An attempt that is not charged to the job is not counted, so the next one has the
    /// same number.
    attempt: u32,
    /// The owner of the failure: `job`, `lane` (the upstream failed or refused by rate) or `worker` (it was lost).
    #[schema(schema_with = schema::charged_to)]
    charged_to: ChargedTo,
    #[schema(format = DateTime)]
    failed_at: String,
    code: &'a str,
    /// The upstream's message, with its address.
    message: &'a str,
    status_code: Option<u16>,
}

/// The tokens of a call, by the upstream's count.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// A complete list of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobList)]
pub(crate) struct JobListView<'a> {
    /// Always `list`.
    object: &'static str,
    data: Vec<JobView<'a>>,
}

/// One page of a list of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
pub(crate) struct PageView<'a> {
    /// Always `list`.
    object: &'static str,
    data: Vec<JobView<'a>>,
    first_id: Option<String>,
    /// The value of `after` for the next page. A page examines at most 2,000 jobs. If few of them match, the page
    /// is short or empty, and this is the last examined job.
    last_id: Option<String>,
    has_more: bool,
}

impl<'a> From<&'a AttemptError> for ErrorView<'a> {
    fn from(error: &'a AttemptError) -> Self {
        Self {
            code: &error.code,
            message: Cow::Borrowed(&error.message),
            attempt: Some(error.attempt),
            status_code: error.status_code,
        }
    }
}

impl<'a> From<&'a FailedAttempt> for AttemptView<'a> {
    fn from(failed: &'a FailedAttempt) -> Self {
        let FailedAttempt { error, at, charged_to } = failed;
        Self {
            attempt: error.attempt,
            charged_to: *charged_to,
            failed_at: moment(*at),
            code: &error.code,
            message: &error.message,
            status_code: error.status_code,
        }
    }
}

/// Returns code and message of a job that was ended by its owner, its deadline or its age.
pub(crate) fn plain_end(job: &Job, status: Status) -> Option<(&'static str, String)> {
    let code = code_of_plain_end(status, job.gave_up())?;
    let message = match code {
        "cancelled" => "the job was cancelled",
        "deadline_exceeded" => "the job did not end before its deadline",
        _ => "the job had no answer within `give_up_after`",
    };
    let last = job.errors.last();
    let last = last.map(|last| format!("; its last attempt failed: {}", last.error.message));
    // The output of a job that expired without an attempt names the outage of its lane.
    let outage = match &job.state {
        State::Ended { output: Some(output), .. } => output.error.as_ref(),
        State::Queued { .. }
        | State::Scheduled { .. }
        | State::Running { .. }
        | State::Ended { .. } => None,
    };
    let outage =
        outage.map(|error| format!("; the upstream of its lane was down: {}", error.message));
    Some((code, format!("{message}{}", last.or(outage).unwrap_or_default())))
}

impl<'a> From<&'a Job> for JobView<'a> {
    fn from(job: &'a Job) -> Self {
        let mut view = Self {
            id: job.id.to_string(),
            object: "job",
            tenant: &job.tenant,
            status: job.status(),
            lane: job.id.shard().lane.as_str(),
            class: job.class,
            session: job.session.as_ref().map(causeway_queue::SessionKey::as_str),
            url: &job.spec.url,
            model: job.spec.model.as_deref(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            stalls: job.stalls,
            created_at: moment(job.created_at),
            scheduled_for: None,
            started_at: job.started_at.map(moment),
            finished_at: None,
            expires_at: job.deadline.map(moment),
            position: None,
            estimated_wait_ms: None,
            waiting_for: None,
            waiting_details: None,
            cancelling: false,
            response: None,
            error: None,
            usage: None,
            simulated: false,
            attempt_errors: job.errors.iter().map(AttemptView::from).collect(),
            metadata: &job.spec.metadata,
            webhook: job.spec.webhook.as_ref().map(|webhook| WebhookView { url: &webhook.url }),
        };
        view.fill(job);
        view
    }
}

impl<'a> JobView<'a> {
    fn fill(&mut self, job: &'a Job) {
        match &job.state {
            State::Queued { position, waiting_for, estimated_wait_ms } => {
                self.position = *position;
                self.estimated_wait_ms = *estimated_wait_ms;
                self.waiting_for = Some(waiting_for.as_str());
                self.waiting_details = WaitingView::of(waiting_for, None);
            }
            State::Scheduled { until, waiting_for } => {
                // Other reasons can outlast `until`, so that time would be misleading.
                let own_time = matches!(waiting_for, WaitingFor::Schedule | WaitingFor::Retry)
                    .then_some(*until);
                self.scheduled_for = own_time.map(moment);
                self.waiting_for = Some(waiting_for.as_str());
                self.waiting_details = WaitingView::of(waiting_for, Some(*until));
            }
            State::Running { cancelling } => self.cancelling = *cancelling,
            State::Ended { status, at, output } => {
                self.finished_at = Some(moment(*at));
                self.error = plain_end(job, *status).map(|(code, message)| ErrorView {
                    code,
                    message: Cow::Owned(message),
                    attempt: None,
                    status_code: None,
                });
                let Some(output) = output else { return };
                self.response = output.response.as_ref().map(|response: &Response| ResponseView {
                    status_code: response.status_code,
                    body: &response.body,
                });
                self.simulated = output.simulated;
                // The reason of the end comes first; the output of an expired job is only its context.
                let own = output.error.as_ref().map(ErrorView::from);
                self.error = self.error.take().or(own);
                self.usage = output.usage.map(|usage| UsageView {
                    prompt_tokens: usage.prompt_tokens,
                    completion_tokens: usage.completion_tokens,
                    total_tokens: usage.total(),
                });
            }
        }
    }
}

/// Returns `job` as JSON.
pub(crate) fn json(job: &Job) -> RawJson {
    RawJson::of(&JobView::from(job)).unwrap_or_default()
}

/// Returns a complete list of jobs.
pub(crate) fn list<'a>(jobs: impl Iterator<Item = &'a Job>) -> RawJson {
    RawJson::of(&JobListView { object: "list", data: jobs.map(JobView::from).collect() })
        .unwrap_or_default()
}

/// Returns `job` as JSON with its request; `body` is `None` if it is no longer stored.
pub(crate) fn json_with_request(job: &Job, body: Option<Bytes>) -> RawJson {
    // Bodies were checked on submission; anything else is shown as null.
    let text = body.and_then(|body| String::from_utf8(body.into()).ok());
    let body = text.and_then(|text| RawJson::parse(text).ok());
    let request = Some(RequestView { url: &job.spec.url, headers: &job.spec.headers, body });
    let included = IncludedView { request };
    RawJson::of(&ShownView { job: JobView::from(job), included }).unwrap_or_default()
}

/// Returns one page of jobs; the next one starts after `next`.
pub(crate) fn page(jobs: &[Job], next: Option<&JobId>) -> RawJson {
    let id = |job: Option<&Job>| job.map(|job| job.id.to_string());
    let data = jobs.iter().map(JobView::from).collect();
    let (first_id, has_more) = (id(jobs.first()), next.is_some());
    // A page that stopped early continues after the last examined job, which may not be on it.
    let last_id = next.map(ToString::to_string).or_else(|| id(jobs.last()));
    RawJson::of(&PageView { object: "list", data, first_id, last_id, has_more }).unwrap_or_default()
}
