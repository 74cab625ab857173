//! A received call: its head and its unparsed body.

use axum::{
    extract::{FromRequest, FromRequestParts as _, Request},
    http::HeaderMap,
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    budget::BudgetCharge, caller::Caller, error::ApiError, extract::ChargedJson, state::AppState,
};

/// A call before its body is parsed.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(super) caller: Caller,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// The arrival of the head.
    pub(super) arrived: Instant,
    pub(super) body: Bytes,
    /// The charge for the body.
    pub(super) charge: Option<BudgetCharge>,
}

impl FromRequest<AppState> for Incoming {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let arrived = Instant::now();
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let (path, headers) = (parts.uri.path().to_owned(), parts.headers.clone());
        let read = ChargedJson::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self { caller, path, headers, arrived, body: read.bytes, charge: read.charge })
    }
}
