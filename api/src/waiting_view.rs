//! What jobs wait for, as clients see it.

use causeway_queue::{WaitingFor, clock::Millis};
use serde::Serialize;
use utoipa::ToSchema;

use crate::job_view::moment;

/// More about what a job waits for; what is unknown is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingDetails)]
pub(crate) struct WaitingView {
    /// Since when the upstream is down.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// When the wait may end: the job's time, the time that a rate permits or that the upstream named, the next probe
    /// of an upstream that is down.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// The latest error of the upstream that is down.
    message: Option<String>,
}

impl WaitingView {
    /// Describes a wait; `scheduled` is the time for which the job waits. `None` if nothing is known of it.
    pub(crate) fn of(waiting_for: &WaitingFor, scheduled: Option<Millis>) -> Option<Self> {
        let until = |at: Millis| Self { since: None, until: Some(moment(at)), message: None };
        match waiting_for {
            WaitingFor::UpstreamDown(down) => Some(Self {
                since: Some(moment(down.since)),
                message: down.error.as_ref().map(|error| error.message.clone()),
                ..until(down.probe_at)
            }),
            WaitingFor::UpstreamRate { until: at }
            | WaitingFor::TenantRate { until: at }
            | WaitingFor::LaneRate { until: at } => Some(until(*at)),
            WaitingFor::Schedule | WaitingFor::Retry => scheduled.map(until),
            WaitingFor::Paused
            | WaitingFor::NoWorker
            | WaitingFor::Session
            | WaitingFor::TenantCap
            | WaitingFor::LaneCap
            | WaitingFor::Turn => None,
        }
    }
}
