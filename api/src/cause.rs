//! The reason why a job has no answer yet, as text for the caller that waits for it.

use causeway_queue::{Job, WaitingFor, job::State, waiting::Down};

use crate::moment::moment;

/// Describes the cause of the delay of `job`: its latest failed attempt and, if it waits, the reason why its
/// lane starts no jobs. `None` if no cause is known.
pub(crate) fn of(job: &Job) -> Option<String> {
    let last = job.errors.last();
    let attempt = last.map(|last| format!("its last attempt failed: {}", last.error.message));
    let known = last.map(|last| last.error.message.as_str());
    let causes: Vec<String> = attempt.into_iter().chain(wait(job, known)).collect();
    (!causes.is_empty()).then(|| causes.join("; "))
}

/// Describes the reason why the lane of a waiting job starts no jobs. The upstream's message is left out if it
/// equals `known`.
fn wait(job: &Job, known: Option<&str>) -> Option<String> {
    let lane = &job.id.shard().lane;
    let (State::Queued { waiting_for, .. } | State::Scheduled { waiting_for, .. }) = &job.state
    else {
        return None;
    };
    match waiting_for {
        WaitingFor::Paused => Some(format!("lane {lane} is paused, or the tenant in it")),
        WaitingFor::NoWorker => Some(format!("no live worker serves lane {lane}")),
        WaitingFor::UpstreamDown(down) => {
            Some(format!("the upstream of lane {lane} is {}", outage(down, known)))
        }
        WaitingFor::UpstreamRate { until } => {
            let until = moment(*until);
            Some(format!("the upstream of lane {lane} refuses requests until {until}"))
        }
        WaitingFor::Schedule
        | WaitingFor::Retry
        | WaitingFor::Session
        | WaitingFor::TenantCap
        | WaitingFor::TenantRate { .. }
        | WaitingFor::LaneCap
        | WaitingFor::LaneRate { .. }
        | WaitingFor::Turn => None,
    }
}

fn outage(down: &Down, known: Option<&str>) -> String {
    let words = down.error.as_ref().map(|error| error.message.as_str());
    let words = words.filter(|words| known != Some(words));
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    let (since, probe_at) = (moment(down.since), moment(down.probe_at));
    format!("down since {since} (next probe at {probe_at}){words}")
}
