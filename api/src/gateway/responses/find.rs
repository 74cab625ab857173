//! The lookup of a response by its id.

use causeway_queue::{Job, JobId, TenantId};

use crate::{access, error::ApiError, state::AppState};

/// The endpoint of the upstream.
const URL: &str = "/v1/responses";

/// Returns the tenant's response `id`.
pub(super) async fn find(state: &AppState, tenant: &TenantId, id: &str) -> Result<Job, ApiError> {
    let unknown = || {
        let id: String = id.chars().take(100).collect();
        let message =
            format!("you have no response {id:?}; it never existed, or its retention is over");
        ApiError::not_found("response_not_found", message)
    };
    let key: Option<JobId> =
        id.strip_prefix("resp_").and_then(|id| format!("job_{id}").parse().ok());
    let key = key.ok_or_else(unknown)?;
    access::of_job(&key);
    let job = state.queue.job(tenant, &key).await?;
    // Any other job is not a response, even if the id fits.
    job.filter(|job| job.spec.url == URL).ok_or_else(unknown)
}
