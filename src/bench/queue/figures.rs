//! The output of `bench queue`, as a table or as one JSON object.

use std::fmt;

use serde::Serialize;

/// The results of a measurement.
#[derive(Debug, Serialize)]
pub(super) struct QueueFigures {
    /// The description of the store.
    pub(super) store: String,
    pub(super) jobs: u32,
    pub(super) enqueued_per_s: f64,
    pub(super) drained_per_s: f64,
    /// `None` for the embedded engine, as are the next four.
    pub(super) redis_commands_per_job: Option<f64>,
    pub(super) redis_calls_per_job: Option<f64>,
    pub(super) redis_cpu_us_per_job: Option<f64>,
    /// The part of enqueuing; the rest is that of claiming and settling.
    pub(super) redis_cpu_us_per_enqueue: Option<f64>,
    pub(super) redis_bytes_per_queued_job: Option<f64>,
    pub(super) pickup_p50_ms: f64,
    pub(super) pickup_p99_ms: f64,
}

impl fmt::Display for QueueFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maybe =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        writeln!(f, "{}", self.store)?;
        for (name, value) in [
            ("jobs", self.jobs.to_string()),
            ("enqueued per s", format!("{:.0}", self.enqueued_per_s)),
            ("drained per s", format!("{:.0}", self.drained_per_s)),
            ("Redis commands per job", maybe(self.redis_commands_per_job)),
            ("Redis calls per job", maybe(self.redis_calls_per_job)),
            ("Redis CPU per job, us", maybe(self.redis_cpu_us_per_job)),
            ("  of which to enqueue, us", maybe(self.redis_cpu_us_per_enqueue)),
            ("Redis bytes per queued job", maybe(self.redis_bytes_per_queued_job)),
            ("pick-up p50, ms", format!("{:.2}", self.pickup_p50_ms)),
            ("pick-up p99, ms", format!("{:.2}", self.pickup_p99_ms)),
        ] {
            writeln!(f, "{name:<28} {value:>12}")?;
        }
        Ok(())
    }
}
