//! The reason why a job waits, as JSON.

use causeway_queue::{WaitingFor, clock::Millis};
use serde::Serialize;
use utoipa::ToSchema;

use crate::moment::moment;

/// Details of the reason why a job waits. Unknown ones are null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingDetails)]
pub(crate) struct WaitingView {
    /// Start of the upstream's outage.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// The time at which the wait may end: the job's own start time, the time that a rate limit or the upstream
    /// sets, or the next probe of an upstream that is down.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// The latest error of the upstream.
    message: Option<String>,
}

impl WaitingView {
    /// Returns the details; `scheduled` is the start time of a scheduled job. `None` if there are none.
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
