//! Metrics of jobs and attempts.
//!
//! The labels are lanes, classes, outcomes and HTTP statuses, which have few values. Tenants and models are not
//! labels: clients choose them, so their number is unbounded.

use std::time::Duration;

use causeway_queue::{Lease, Outcome, job::AttemptError};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// Records the wait of a job when its first attempt starts.
pub(crate) fn started(lease: &Lease) {
    if lease.key.epoch == 1 {
        let waited = lease.claimed_at.since(lease.created_at).as_secs_f64();
        let class = lease.key.class.as_str();
        histogram!("causeway_wait_seconds", "lane" => lane(lease), "class" => class).record(waited);
    }
}

/// Records an attempt that ended after `took`.
pub(crate) fn ended(lease: &Lease, outcome: &Outcome, took: Duration) {
    let name = name(outcome);
    counter!("causeway_attempts_total", "lane" => lane(lease), "outcome" => name).increment(1);
    histogram!("causeway_attempt_seconds", "lane" => lane(lease), "outcome" => name)
        .record(took.as_secs_f64());
    match outcome {
        Outcome::Succeeded { output, .. } => {
            let response = output.response.as_ref();
            answered(lease, response.map(|response| response.status_code));
            if let Some(usage) = output.usage {
                count_tokens(lease, "prompt", usage.prompt_tokens);
                count_tokens(lease, "completion", usage.completion_tokens);
            }
            let before = lease.claimed_at.since(lease.created_at);
            let class = lease.key.class.as_str();
            histogram!("causeway_job_seconds", "lane" => lane(lease), "class" => class)
                .record((before + took).as_secs_f64());
        }
        Outcome::Failed { output } => answered(lease, output.error.as_ref().and_then(status)),
        Outcome::Faulted { error, .. } | Outcome::Retry { error, .. } => {
            answered(lease, status(error));
        }
        Outcome::Released { .. } | Outcome::Cancelled | Outcome::Expired => {}
    }
}

/// Returns the label of an outcome.
pub(crate) fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Retry { .. } => "retry",
        Outcome::Faulted { .. } => "faulted",
        Outcome::Released { .. } => "released",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
    }
}

fn status(error: &AttemptError) -> Option<u16> {
    error.status_code
}

fn answered(lease: &Lease, status: Option<u16>) {
    let status = match status {
        None => "none".to_owned(),
        Some(status @ 100..=599) => status.to_string(),
        // An upstream may send any three-digit number, but labels must stay few.
        Some(_) => "other".to_owned(),
    };
    counter!("causeway_upstream_answers_total", "lane" => lane(lease), "status" => status)
        .increment(1);
}

fn count_tokens(lease: &Lease, kind: &'static str, count: u64) {
    counter!("causeway_tokens_total", "lane" => lane(lease), "kind" => kind).increment(count);
}

fn lane(lease: &Lease) -> String {
    lease.key.job.shard().lane.to_string()
}

/// Describes the metrics of this crate to the recorder of the process.
pub fn describe_metrics() {
    let seconds = Unit::Seconds;
    describe_counter!("causeway_attempts_total", "Attempts that ended, by lane and outcome.");
    describe_histogram!("causeway_attempt_seconds", seconds, "Duration of attempts.");
    describe_histogram!(
        "causeway_wait_seconds",
        seconds,
        "From the acceptance of a job to its first attempt."
    );
    describe_histogram!(
        "causeway_job_seconds",
        seconds,
        "From the acceptance of a job to its answer."
    );
    describe_counter!(
        "causeway_upstream_answers_total",
        "Calls of upstreams by lane and HTTP status; none: no answer came."
    );
    describe_counter!(
        "causeway_tokens_total",
        "Tokens as the upstreams count them, by lane and kind: prompt or completion."
    );
    describe_gauge!("causeway_running", "Attempts that run in this process.");
    describe_counter!("causeway_cool_downs_total", "Cool-downs of lanes whose upstream failed.");
    describe_counter!("causeway_stalls_total", "Attempts whose worker was lost.");
    describe_counter!("causeway_repairs_total", "Wrong counts that were repaired; expected: 0.");
    describe_histogram!("causeway_step_settled", "Attempts settled by one call to the store.");
    describe_histogram!("causeway_step_claimed", "Attempts claimed by one call to the store.");
}
