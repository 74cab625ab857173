//! Jobs.

use causeway_queue::backend::MAX_PAGE;
use utoipa::openapi::{
    RefOr, ResponseBuilder, Schema,
    path::HttpMethod::{Get, Post},
};

use super::{
    operation::{Operation, all_of, json, nothing, of, one_of, operation, plain, told},
    paths::Entry,
    schema,
};
use crate::{
    job_view::{IncludedView, JobListView, JobView, PageView},
    settings::Settings,
    submit::{JobRequest, ManyRequest},
};

const TAG: &str = "jobs";
const ID: &str = "The job's id";
const INCLUDE: &str =
    "`request` adds what was submitted, with its body until the job has succeeded";
const WAIT: &str = "How many seconds to wait for the end";

/// An answer about one job.
fn answered(about: &str) -> ResponseBuilder {
    answered_as(about, of::<JobView<'_>>())
}

fn answered_as(about: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    let marks = [
        ("x-causeway-job-id", "The job, in errors too"),
        ("x-causeway-simulated", "`true` where a simulation answered, and no model"),
    ];
    let response = json(about, schema);
    marks.into_iter().fold(response, |response, (name, about)| response.header(name, told(about)))
}

fn job(id: &str, summary: &str) -> Operation {
    operation(TAG, id, summary).path("id", ID).refuses([404]).asks_the_store()
}

fn submit() -> Operation {
    let replayed = told("`true` where an earlier call with this key made the job");
    let accepted = json("Accepted", one_of([of::<JobView<'_>>(), of::<JobListView<'_>>()]));
    let accepted = accepted.header("location", told("Where the one job is"));
    let accepted = accepted.header("x-causeway-job-id", told("The one job, in errors too"));
    let accepted = accepted.header("idempotent-replayed", replayed);
    operation(TAG, "submitJobs", "Submit one job, or many at once")
        .header("Prefer", "`wait=N` waits for the end, at most N seconds", schema::any_text())
        .header(
            "Idempotency-Key",
            "The same key is the same job, for 24 h or as long as the job is kept, within the lane of the model",
            schema::key(),
        )
        .takes(one_of([of::<JobRequest>(), of::<ManyRequest>()]))
        .responds(200, answered("The job, which has ended within the wait"))
        .responds(202, accepted)
        .refuses([410, 422, 429])
        .asks_the_store()
}

fn listing(operation: Operation) -> Operation {
    operation
        .query("class", "Jobs of this class", schema::class())
        .query("session", "Jobs of this session", schema::key())
        .query("since", "Jobs that were accepted at this moment or later", schema::moment())
        .query("model", "Jobs of this model", schema::any_text())
        .query("error_code", "Jobs that ended with this `error.code`", schema::any_text())
        .query("tenant", "Jobs of this tenant; of another one for administrators", schema::tenant())
        .query("limit", "How many; 20 unless you say", schema::number(1, MAX_PAGE))
        .query("after", "The id after which to go on", schema::any_text())
        .refuses([400, 403])
        .asks_the_store()
}

pub(super) fn entries(settings: &Settings) -> Vec<Entry> {
    let list = listing(operation(TAG, "listJobs", "List jobs, newest first"));
    let list = list.query("status", "Jobs of this status", schema::status());
    let retry_many = "Put back a page of failed, cancelled or expired jobs";
    let retry_many = listing(operation(TAG, "retryJobs", retry_many)).about(
        "The oldest job of the page goes first, so jobs of a session keep their order; pages are \
         newest first, so over several of them they keep it only where the last page goes first. \
         Where the queue becomes full, the answer has what was put back, `has_more` is true, and \
         the same call puts back the rest.",
    );
    let shown = all_of([of::<JobView<'_>>(), of::<IncludedView<'_>>()]);
    let events = plain("What happens, as it happens", "text/event-stream");
    vec![
        ("/v1/jobs", Post, submit()),
        ("/v1/jobs", Get, list.answers(200, "A page of jobs", of::<PageView<'_>>())),
        (
            "/v1/jobs/{id}",
            Get,
            job("showJob", "The job, at once or when it has ended")
                .query("wait", WAIT, schema::seconds(settings.max_wait))
                .query("include", INCLUDE, schema::included())
                .responds(200, answered_as("The job", shown))
                .refuses([400]),
        ),
        (
            "/v1/jobs/{id}/events",
            Get,
            job("followJob", "Follow a job by server-sent events")
                .about(
                    "`job.queued`, `job.started`, `output.delta`, `job.retrying`, `output.reset` \
                     (a new attempt begins: drop the text so far), `ping`, and last one of \
                     `job.succeeded`, `job.failed`, `job.cancelled`, `job.expired`.",
                )
                .query("after", "The number of the last event that you have", schema::seq())
                .header("Last-Event-ID", "The same", schema::seq())
                .responds(200, events)
                .responds(204, nothing("The job has ended, and you have its last event"))
                .refuses([400]),
        ),
        (
            "/v1/jobs/{id}/result",
            Get,
            job("jobResult", "The upstream's own status and body")
                .responds(202, answered("The job has not ended"))
                .refuses([410, 502, 504])
                .passes_on(),
        ),
        (
            "/v1/jobs/{id}/cancel",
            Post,
            job("cancelJob", "Cancel a job, waiting or running; as often as you like")
                .responds(200, answered("The job as it is then")),
        ),
        (
            "/v1/jobs/{id}/retry",
            Post,
            job("retryJob", "Put a failed, cancelled or expired job back")
                .responds(202, answered("The job as it is then"))
                .refuses([400, 429]),
        ),
        (
            "/v1/jobs/retry",
            Post,
            retry_many
                .required_query("status", "Which jobs", schema::retryable_status())
                .answers(202, "Those that were put back", of::<PageView<'_>>())
                .refuses([429]),
        ),
    ]
}
