//! What a worker process serves: `/healthz` and `/metrics`, for those who watch it.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use causeway_worker::LoopHealth;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::node::STUCK;

/// The routes: `/healthz` answers 200 while the worker's loops turn, 503 when they hang.
pub(crate) fn routes(health: Arc<LoopHealth>, metrics: PrometheusHandle) -> Router {
    let health = move || {
        let healthy = health.is_alive(STUCK);
        async move {
            if healthy {
                (StatusCode::OK, "ok\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "the worker's loop does not turn\n")
            }
        }
    };
    let metrics = move || {
        let text = metrics.render();
        async move { text }
    };
    Router::new().route("/healthz", get(health)).route("/metrics", get(metrics))
}

/// Serves them until it is dropped.
///
/// # Errors
/// When the listener breaks.
pub(crate) async fn serve(listener: TcpListener, routes: Router) -> anyhow::Result<()> {
    axum::serve(listener, routes).await.context("the probe broke")
}
