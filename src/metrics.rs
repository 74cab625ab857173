//! The metrics of this process: their recorder, buckets, and build information.

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The upper bounds of duration buckets, in seconds: from a local answer to the longest call.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    7200.0,
];

/// The upper bounds of count buckets.
const COUNTS: [f64; 10] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Starts the collection of metrics; once per process.
///
/// # Errors
/// If a recorder is installed already.
pub(crate) fn start() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            // These metrics count jobs, not seconds.
            builder.set_buckets_for_metric(Matcher::Prefix("causeway_step_".to_owned()), &COUNTS)
        });
    let handle = builder.and_then(PrometheusBuilder::install_recorder);
    let handle = handle.context("cannot start the collection of metrics")?;
    causeway_api::describe_metrics();
    causeway_worker::describe_metrics();
    ::metrics::describe_gauge!("causeway_build_info", "1, with the version and the commit.");
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"));
    ::metrics::gauge!("causeway_build_info", "version" => version, "commit" => commit).set(1.0);
    Ok(handle)
}
