//! A job as JSON: the shape that clients see, apart from the shape that the queue keeps.

use std::{borrow::Cow, collections::BTreeMap};

use causeway_queue::{
    Class, Job, RawJson, Status,
    clock::Millis,
    job::{AttemptError, Response, State},
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{openapi::schema, waiting_view::WaitingView};

/// A job. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView<'a> {
    id: String,
    /// Always `job`.
    object: &'static str,
    #[schema(schema_with = schema::status)]
    status: Status,
    lane: &'a str,
    #[schema(schema_with = schema::class)]
    class: Class,
    session: Option<&'a str>,
    /// To which endpoint of the upstream it goes.
    url: &'a str,
    model: Option<&'a str>,
    /// How often the upstream was called for it.
    attempts: u32,
    max_attempts: u32,
    /// How many workers it has lost.
    stalls: u32,
    #[schema(format = DateTime)]
    created_at: String,
    /// Where it waits for a time.
    #[schema(format = DateTime)]
    scheduled_for: Option<String>,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// Its deadline.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// How many jobs of its flow go before it.
    position: Option<u64>,
    /// By the measured drain rate, caps and rates; null while none was measured of late, in a pause, and where no live
    /// worker serves its lane.
    estimated_wait_ms: Option<u64>,
    /// What it waits for.
    #[schema(schema_with = schema::waiting_for)]
    waiting_for: Option<&'static str>,
    /// More about that.
    waiting_details: Option<WaitingView>,
    /// Whether it runs and shall end.
    cancelling: bool,
    response: Option<ResponseView<'a>>,
    /// Why it has no answer.
    error: Option<ErrorView<'a>>,
    usage: Option<UsageView>,
    /// Whether a simulation answered, and no model.
    simulated: bool,
    /// What went wrong in each attempt so far.
    attempt_errors: Vec<ErrorView<'a>>,
    metadata: &'a BTreeMap<String, String>,
    /// Who is told when it ends.
    webhook: Option<WebhookView<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobWebhook)]
struct WebhookView<'a> {
    url: &'a str,
}

/// What the upstream answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobResponse)]
struct ResponseView<'a> {
    status_code: u16,
    /// As the upstream sent it.
    #[schema(schema_with = schema::anything)]
    body: &'a RawJson,
}

/// What went wrong with a job, or with one of its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobError)]
pub(crate) struct ErrorView<'a> {
    code: &'a str,
    message: Cow<'a, str>,
    attempt: Option<u32>,
    status_code: Option<u16>,
}

/// The tokens of a call, as the upstream counts them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// Jobs, whole.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobList)]
pub(crate) struct ListView<'a> {
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
    /// The next page is asked for with `after` this one.
    last_id: Option<String>,
    has_more: bool,
}

/// A moment as RFC 3339, in UTC, with milliseconds.
pub(crate) fn moment(at: Millis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or_default())
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

/// The code and the message for a job that its owner, its deadline or its age ended.
pub(crate) fn plain_end(job: &Job, status: Status) -> Option<(&'static str, String)> {
    let (code, message) = match status {
        Status::Cancelled => ("cancelled", "the job was cancelled"),
        Status::Expired if job.gave_up() => {
            ("gave_up", "the job had no answer within `give_up_after`")
        }
        Status::Expired => ("deadline_exceeded", "the job did not end before its deadline"),
        Status::Queued
        | Status::Scheduled
        | Status::Running
        | Status::Succeeded
        | Status::Failed => return None,
    };
    let last = job.errors.last();
    let last = last.map(|last| format!("; its last attempt failed: {}", last.message));
    // Of a job that expired untried, the output names the outage of its lane.
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
            attempt_errors: job.errors.iter().map(ErrorView::from).collect(),
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
                self.scheduled_for = Some(moment(*until));
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

/// `job` as JSON text.
pub(crate) fn json(job: &Job) -> RawJson {
    RawJson::of(&JobView::from(job)).unwrap_or_default()
}

/// Jobs as a list, whole.
pub(crate) fn list<'a>(jobs: impl Iterator<Item = &'a Job>) -> RawJson {
    RawJson::of(&ListView { object: "list", data: jobs.map(JobView::from).collect() })
        .unwrap_or_default()
}

/// Jobs as one page of a list.
pub(crate) fn page(jobs: &[Job], has_more: bool) -> RawJson {
    let id = |job: Option<&Job>| job.map(|job| job.id.to_string());
    let data = jobs.iter().map(JobView::from).collect();
    let (first_id, last_id) = (id(jobs.first()), id(jobs.last()));
    RawJson::of(&PageView { object: "list", data, first_id, last_id, has_more }).unwrap_or_default()
}
