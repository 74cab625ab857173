//! Why a job has no answer yet, in words for the caller that waited for it.

use causeway_queue::{Job, Queue, job::State};

use crate::job_view::moment;

/// Returns what keeps `job` from its answer: its latest failed attempt and, if it waits, the outage of its
/// lane. `None` if nothing has failed. An outage is left out if the store does not answer.
pub(crate) async fn of(queue: &Queue, job: &Job) -> Option<String> {
    let last = job.errors.last();
    let attempt = last.map(|error| format!("its last attempt failed: {}", error.message));
    let known = last.map(|error| error.message.as_str());
    let outage = if waits(job) { outage(queue, job, known).await } else { None };
    let causes: Vec<String> = attempt.into_iter().chain(outage).collect();
    (!causes.is_empty()).then(|| causes.join("; "))
}

/// True if a worker has yet to claim the job. A lane that is down keeps it waiting whatever else it waits for:
/// the place in its session, a retry.
fn waits(job: &Job) -> bool {
    match &job.state {
        State::Queued { .. } | State::Scheduled { .. } => true,
        State::Running { .. } | State::Ended { .. } => false,
    }
}

/// Describes the outage of the job's lane. The upstream's words are left out if they are `known`.
async fn outage(queue: &Queue, job: &Job, known: Option<&str>) -> Option<String> {
    let lane = &job.id.shard().lane;
    // One tenant's numbers are cheap: those of all tenants visit up to 1,000 flows, and in an outage many calls end
    // at the same time.
    let down = queue.stats(lane, Some(&job.tenant)).await.ok()?.down?;
    let words = down.error.map(|error| error.message).filter(|words| known != Some(words));
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    let (since, probe_at) = (moment(down.since), moment(down.probe_at));
    Some(format!(
        "the upstream of lane {lane} is down since {since} (next probe at {probe_at}){words}"
    ))
}
