//! A job as JSON: the shape that clients see, apart from the shape that the queue keeps.

use std::collections::BTreeMap;

use causeway_queue::{
    Class, Job, RawJson, Status,
    clock::Millis,
    job::{AttemptError, Response, State},
    state::WaitingFor,
};
use jiff::Timestamp;
use serde::Serialize;

/// A job.
#[derive(Debug, Serialize)]
pub(crate) struct JobView<'a> {
    id: String,
    object: &'static str,
    status: Status,
    lane: &'a str,
    class: Class,
    session: Option<&'a str>,
    url: &'a str,
    model: Option<&'a str>,
    attempts: u32,
    max_attempts: u32,
    stalls: u32,
    created_at: String,
    scheduled_for: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    expires_at: Option<String>,
    position: Option<u64>,
    estimated_wait_ms: Option<u64>,
    waiting_for: Option<WaitingFor>,
    cancelling: bool,
    response: Option<ResponseView<'a>>,
    error: Option<ErrorView<'a>>,
    usage: Option<UsageView>,
    attempt_errors: Vec<ErrorView<'a>>,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct ResponseView<'a> {
    status_code: u16,
    body: &'a RawJson,
}

#[derive(Debug, Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
    attempt: Option<u32>,
    status_code: Option<u16>,
}

#[derive(Debug, Serialize)]
struct UsageView {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct ListView<'a> {
    object: &'static str,
    data: Vec<JobView<'a>>,
    #[serde(flatten)]
    page: Option<PageView>,
}

#[derive(Debug, Serialize)]
struct PageView {
    first_id: Option<String>,
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
            message: &error.message,
            attempt: Some(error.attempt),
            status_code: error.status_code,
        }
    }
}

/// What is said of a job that its owner or its deadline ended.
fn plain_end(status: Status) -> Option<ErrorView<'static>> {
    let (code, message) = match status {
        Status::Cancelled => ("cancelled", "the job was cancelled"),
        Status::Expired => ("deadline_exceeded", "the job did not end before its deadline"),
        Status::Queued
        | Status::Scheduled
        | Status::Running
        | Status::Succeeded
        | Status::Failed => return None,
    };
    Some(ErrorView { code, message, attempt: None, status_code: None })
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
            cancelling: false,
            response: None,
            error: None,
            usage: None,
            attempt_errors: job.errors.iter().map(ErrorView::from).collect(),
            metadata: &job.spec.metadata,
        };
        view.fill(&job.state);
        view
    }
}

impl<'a> JobView<'a> {
    fn fill(&mut self, state: &'a State) {
        match state {
            State::Queued { position, waiting_for, estimated_wait_ms } => {
                self.position = *position;
                self.estimated_wait_ms = *estimated_wait_ms;
                self.waiting_for = Some(*waiting_for);
            }
            State::Scheduled { until, waiting_for } => {
                self.scheduled_for = Some(moment(*until));
                self.waiting_for = Some(*waiting_for);
            }
            State::Running { cancelling } => self.cancelling = *cancelling,
            State::Ended { status, at, output } => {
                self.finished_at = Some(moment(*at));
                self.error = plain_end(*status);
                let Some(output) = output else { return };
                self.response = output.response.as_ref().map(|response: &Response| ResponseView {
                    status_code: response.status_code,
                    body: &response.body,
                });
                self.error = output.error.as_ref().map(ErrorView::from);
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
    RawJson::of(&ListView { object: "list", data: jobs.map(JobView::from).collect(), page: None })
        .unwrap_or_default()
}

/// Jobs as one page of a list.
pub(crate) fn page(jobs: &[Job], has_more: bool) -> RawJson {
    let id = |job: Option<&Job>| job.map(|job| job.id.to_string());
    let page = PageView { first_id: id(jobs.first()), last_id: id(jobs.last()), has_more };
    let data = jobs.iter().map(JobView::from).collect();
    RawJson::of(&ListView { object: "list", data, page: Some(page) }).unwrap_or_default()
}
