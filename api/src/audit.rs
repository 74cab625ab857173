//! The audit trail: actions of administrators and refused keys, as log lines of the target
//! `causeway_api::audit`.

use std::{net::SocketAddr, sync::Arc};

use tokio::time::Duration;

use crate::{caller::Caller, state::AppState};

/// The period of reports about refused keys. A line for each would let strangers fill the log.
const PERIOD: Duration = Duration::from_secs(60);

/// Logs the action of an administrator on `object`.
pub(crate) fn act(caller: &Caller, action: &'static str, object: &str) {
    tracing::info!(
        tenant.id = %caller.tenant, action, object,
        "an administrator acted"
    );
}

/// Counts a request from `peer` with a refused key. The first one of a period is logged at once, all others
/// in one line at the end of the period.
pub(crate) fn reject(state: &AppState, peer: Option<SocketAddr>) {
    metrics::counter!("causeway_rejected_keys_total").increment(1);
    let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
    if !state.rejections.count() {
        return;
    }
    tracing::warn!(peer, "an API key was refused; more within a minute are counted");
    let (rejections, draining) = (Arc::clone(&state.rejections), state.draining.clone());
    state.background_tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = draining.cancelled() => {}
        }
        let more = rejections.take();
        if more > 0 {
            tracing::warn!(rejected = more, "further API keys were refused within a minute");
        }
    });
}
