//! Reading of request bodies into one buffer, within a size limit, the memory budget of all bodies, and a
//! minimum rate.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    budget::{BudgetCharge, Payer, SMALL, charged},
    caller::Caller,
    error::ApiError,
    serve::{
        connection::Connection,
        reading::{BodyReading, LEAST_RATE, SLOW_AFTER},
    },
    state::AppState,
};

/// The time that a body may take regardless of its length, before the minimum rate applies.
const GRACE: Duration = Duration::from_secs(20);

/// The number of pieces of a body that may be of any length. Further ones need [`LEAST_PIECE`] bytes on
/// average, since each piece costs CPU time.
const FREE_PIECES: usize = 1 << 16;
const LEAST_PIECE: usize = 16;

/// Deepest nesting of arrays and objects. Clients receive their requests back, and their parsers fail at about
/// 1,000.
const MAX_DEPTH: usize = 512;

/// Reads the body of `request` as JSON text.
///
/// # Errors
/// As [`read_any`], and if the body is not UTF-8 or is nested too deeply.
pub(crate) async fn read(state: &AppState, request: Request) -> Result<Bytes, ApiError> {
    let bytes = read_any(state, request).await?;
    check_text(&bytes)?;
    Ok(bytes)
}

/// Reads the body of `request` as JSON text. The budget is charged until the returned charge is dropped,
/// independently of the bytes: the embedded store keeps the bytes of a job.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_apart(
    state: &AppState,
    request: Request,
) -> Result<(Bytes, Option<BudgetCharge>), ApiError> {
    let (bytes, charge) = read_whole(state, request).await?;
    check_text(&bytes)?;
    Ok((bytes.into(), charge))
}

/// Reads the body of `request` as bytes of any type.
///
/// # Errors
/// If the body is too long, finds no room in the budget, arrives too slowly, or is compressed.
pub(crate) async fn read_any(state: &AppState, request: Request) -> Result<Bytes, ApiError> {
    let (bytes, charge) = read_whole(state, request).await?;
    Ok(charged(bytes, charge))
}

async fn read_whole(
    state: &AppState,
    request: Request,
) -> Result<(Vec<u8>, Option<BudgetCharge>), ApiError> {
    let (parts, body) = request.into_parts();
    check_coding(&parts.headers)?;
    let tenant = parts.extensions.get::<Caller>().map(|caller| caller.tenant.clone());
    let tenant =
        tenant.ok_or_else(|| ApiError::unauthorized("this route has no authentication"))?;
    let connection = parts.extensions.get::<Arc<Connection>>();
    let progress = connection.map(|connection| connection.register_body(tenant.clone()));
    let payer = Payer { tenant, shares: !state.tenants.are_open() };
    let most = state.settings.max_body_bytes;
    let reading = BodyBuffer { state, payer, most, progress: progress.as_ref() };
    tokio::select! {
        biased;
        // A body that is complete counts, even if its place was demanded at the same moment.
        read = reading.all(body) => read,
        () = cancelled(progress.as_ref()) => Err(yielded()),
    }
}

async fn cancelled(progress: Option<&BodyReading>) {
    match progress {
        Some(progress) => progress.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The state of reading one body.
struct BodyBuffer<'a> {
    state: &'a AppState,
    payer: Payer,
    most: usize,
    progress: Option<&'a BodyReading>,
}

impl BodyBuffer<'_> {
    async fn all(&self, mut body: Body) -> Result<(Vec<u8>, Option<BudgetCharge>), ApiError> {
        // A declared length is charged at once. Bodies that grow in parallel could all get stuck half-way.
        let declared = body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared == Some(0) {
            return Ok((Vec::new(), None));
        }
        if declared.is_some_and(|bytes| bytes > self.most) {
            return Err(self.too_large());
        }
        // A body of unknown length starts with the size of a small one, and grows from there.
        let room = declared.unwrap_or(SMALL.min(self.most));
        let mut charge = self.charge(room).await?;
        // The client cannot send faster than the body finds room.
        if let Some(progress) = self.progress {
            progress.start();
        }
        let mut buffer = Vec::with_capacity(room);
        let start = Instant::now();
        let mut pieces = 0;
        loop {
            // Each received `LEAST_RATE` bytes extend the deadline by one second.
            let rate = Duration::from_secs((buffer.len() / LEAST_RATE).try_into().unwrap_or(0));
            let frame = timeout_at(start + GRACE + rate, body.frame()).await;
            let Some(frame) = frame.map_err(|_| too_slow())? else { break };
            let Ok(data) = frame.map_err(|_| unreadable())?.into_data() else { continue };
            pieces += 1;
            let bytes = buffer.len() + data.len();
            if bytes > self.most {
                return Err(self.too_large());
            }
            if pieces > FREE_PIECES && bytes / pieces < LEAST_PIECE {
                return Err(in_pieces());
            }
            if bytes > buffer.capacity() {
                charge = self.grow(charge, &mut buffer, bytes)?;
            }
            buffer.extend_from_slice(&data);
            if let Some(progress) = self.progress {
                progress.record_progress(buffer.len());
            }
        }
        // The embedded store keeps this buffer for as long as the job, so its spare capacity would be lost
        // memory.
        buffer.shrink_to_fit();
        Ok((buffer, Some(charge)))
    }

    async fn charge(&self, bytes: usize) -> Result<BudgetCharge, ApiError> {
        let charge = self.state.bodies.take_soon(&self.payer, bytes).await;
        charge.map_err(|limit| ApiError::too_many_bytes(limit, "request bodies"))
    }

    /// Extends the charge by `bytes`, for a body that declared no length.
    fn grow(
        &self,
        charge: BudgetCharge,
        buffer: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<BudgetCharge, ApiError> {
        // Doubling keeps the number of copies logarithmic.
        let room = bytes.max(2 * buffer.capacity()).min(self.most);
        let charge = self.state.bodies.grow(charge, room);
        let charge = charge.map_err(|limit| ApiError::too_many_bytes(limit, "request bodies"))?;
        buffer.reserve_exact(room - buffer.len());
        Ok(charge)
    }

    fn too_large(&self) -> ApiError {
        let message = format!(
            "the body is larger than {} bytes, which is the limit (api.max_body_bytes)",
            self.most
        );
        ApiError::invalid("body_too_large", message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

fn unreadable() -> ApiError {
    ApiError::invalid("unreadable_body", "the body could not be read to its end")
}

fn too_slow() -> ApiError {
    let message = format!(
        "the body arrived too slowly: after {} s, at least {LEAST_RATE} bytes per second are required",
        GRACE.as_secs()
    );
    ApiError::invalid("body_too_slow", message).with_status(StatusCode::REQUEST_TIMEOUT)
}

fn yielded() -> ApiError {
    let message = format!(
        "the body arrived too slowly while all connections are busy (api.max_connections): after \
         {} s a slow body gives way; send the request again",
        SLOW_AFTER.as_secs()
    );
    ApiError::invalid("body_too_slow", message).with_status(StatusCode::REQUEST_TIMEOUT)
}

fn in_pieces() -> ApiError {
    let message =
        format!("the body arrives in pieces of less than {LEAST_PIECE} bytes; send longer ones");
    ApiError::invalid("unreadable_body", message)
}

/// Refuses a compressed body, which would be parsed as plain JSON.
fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "compressed bodies are not supported; send it without `Content-Encoding`";
    Err(ApiError::invalid("unsupported_content_encoding", message)
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

/// Checks two properties that a parser does not check in values that it skips: valid UTF-8 and limited nesting.
fn check_text(bytes: &[u8]) -> Result<(), ApiError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let message = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        return Err(ApiError::invalid("invalid_json", message));
    }
    if depth(bytes) > MAX_DEPTH {
        let message = format!("the body is nested deeper than {MAX_DEPTH} levels");
        return Err(ApiError::invalid("invalid_json", message));
    }
    Ok(())
}

/// Returns the deepest nesting of arrays and objects in JSON. The result for other text is meaningless but
/// harmless.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            // Brackets inside of strings do not nest, so strings and escapes are tracked.
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_add_no_depth() {
        assert_eq!(depth(br#"{"a":["[[[",{"\"[[":1}]}"#), 3);
        assert_eq!(depth(b"[[[]]][]"), 3);
        assert_eq!(depth(b"]]]]"), 0);
    }
}
