//! The endpoints of a worker process for monitoring: `/healthz` and `/metrics`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use causeway_worker::LoopHealth;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

/// The time without progress of a claim loop after which the process counts as stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(30);

/// Returns the routes: `/healthz` answers 200 while the worker's loops make progress, and 503 if
/// they are stuck.
pub(crate) fn routes(health: Arc<LoopHealth>, metrics: PrometheusHandle) -> Router {
    let health = move || {
        let healthy = health.is_alive(STUCK);
        async move {
            if healthy {
                (StatusCode::OK, "ok\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "the worker's claim loop makes no progress\n")
            }
        }
    };
    let metrics = move || {
        let text = metrics.render();
        async move { text }
    };
    Router::new().route("/healthz", get(health)).route("/metrics", get(metrics))
}

/// Serves the routes until it is dropped.
///
/// # Errors
/// If the listener fails.
pub(crate) async fn serve(listener: TcpListener, routes: Router) -> anyhow::Result<()> {
    axum::serve(listener, routes).await.context("the probe's listener failed")
}
