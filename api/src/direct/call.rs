//! The handler of direct calls.

use std::{convert::Infallible, future::ready};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use causeway_queue::{
    LaneName, RawJson,
    json::{RawObject, text},
    limits::Rate,
};
use futures_util::{StreamExt as _, stream};

use super::{DirectAnswer, DirectCall, DirectFailure, MAX_CALLS};
use crate::{
    body,
    budget::{BudgetCharge, BudgetLimit, Payer},
    caller::Caller,
    error::{ApiError, is_anthropic},
    extract::{is_json, parse},
    forward,
    jobs::respond,
    state::AppState,
    submit::Peek,
};

/// Longest part of an upstream's message that an error repeats, in characters.
const MAX_WORDS: usize = 500;

/// The window of a tenant's rate. Limits are per minute.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Serves an endpoint past the queue.
pub(super) async fn call(State(state): State<AppState>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    // The metric counts refusals too, so errors become responses here and not in axum.
    let answered = pass(&state, &path, request).await;
    let response = answered.unwrap_or_else(|error| error.in_shape_of(&path).into_response());
    let status = response.status().as_str().to_owned();
    metrics::counter!("causeway_direct_calls_total", "path" => path, "status" => status)
        .increment(1);
    response
}

async fn pass(state: &AppState, path: &str, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, state).await?;
    let payer = Payer { tenant: caller.tenant.clone(), shares: !state.tenants.are_open() };
    let headers = parts.headers.clone();
    let body = body::read_any(state, Request::from_parts(parts, body)).await?;
    let model = model(&headers, &body).await?;
    check_rate(state, &caller, model.as_deref()).await?;
    let lane = &state.queue.lane_of(model.as_deref()).name;
    // The slot is taken after the body was read. A client that sends slowly would occupy it otherwise.
    let slot = state.direct_calls.take(&payer, 1).map_err(too_many)?;
    // RFC 9110, section 8.3: a body without a type may be taken for bytes.
    let any = HeaderValue::from_static("application/octet-stream");
    let call = DirectCall {
        path: path.to_owned(),
        content_type: headers.get(header::CONTENT_TYPE).cloned().unwrap_or(any),
        headers: forward::of_call(&state.settings.forward_headers, path, &headers)?,
        body,
    };
    let source = state.settings.direct.as_ref();
    let Some(sent) = source.and_then(|source| source.send(lane, call)) else {
        return Err(without_upstream(lane, path));
    };
    match sent.await {
        Ok(answer) => Ok(answered(answer, slot)),
        Err(DirectFailure::Refused { status_code, retry_after, body }) => {
            let mut response = refused(lane, path, status_code, &body)?;
            if let Some(after) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
            }
            Ok(response)
        }
        Err(DirectFailure::NoAnswer { message, is_timeout }) => {
            Err(ApiError::upstream(is_timeout, message))
        }
    }
}

/// Returns the model that the body names, which selects the lane. Forms are validated by the upstream; an
/// unreadable one, such as one with field names beyond ASCII, names no model.
async fn model(headers: &HeaderMap, body: &Bytes) -> Result<Option<String>, ApiError> {
    if is_json(headers) {
        return parse(body).map(|peek: Peek| peek.model);
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Ok(boundary) = multer::parse_boundary(content_type.unwrap_or_default()) else {
        return Ok(None);
    };
    let whole = stream::once(ready(Ok::<Bytes, Infallible>(body.clone())));
    let mut form = multer::Multipart::new(whole, boundary);
    while let Ok(Some(field)) = form.next_field().await {
        // The first field counts. The upstream would refuse a form that names two models.
        if field.name() == Some("model") {
            return Ok(field.text().await.ok());
        }
    }
    Ok(None)
}

/// Charges a call to the tenant's request rate. Direct calls have their own bucket.
pub(crate) async fn check_rate(
    state: &AppState,
    caller: &Caller,
    model: Option<&str>,
) -> Result<(), ApiError> {
    if !caller.is_rated {
        return Ok(());
    }
    let allowance = state.queue.allowance(&caller.tenant, model).await?;
    let Some(requests) = allowance.requests else { return Ok(()) };
    // The limit is that of jobs, but the bucket is separate: direct calls never delay jobs.
    let rate = Rate { limit: requests.limit, window: MINUTE };
    let bucket = format!("direct:{}", state.queue.lane_of(model).name);
    let throttle = state.queue.throttle(&caller.tenant, &bucket, rate).await?;
    if throttle.allowed {
        return Ok(());
    }
    let after = throttle.retry_after.as_secs().max(1);
    let message =
        format!("your limit is {} calls a minute; try again in {after} s", requests.limit);
    Err(ApiError::too_many("rate_limit_exceeded", message, after))
}

/// Streams the answer to the client. The call keeps its slot until the last byte.
fn answered(answer: DirectAnswer, slot: BudgetCharge) -> Response {
    let pieces = answer.body.map(move |piece| {
        // Moves the slot into the stream, which drops it after the last piece.
        let _held: &BudgetCharge = &slot;
        piece
    });
    let mut response = Body::from_stream(pieces).into_response();
    *response.status_mut() = StatusCode::from_u16(answer.status_code).unwrap_or_default();
    if let Some(kind) = answer.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn too_many(limit: BudgetLimit) -> ApiError {
    let limit = match limit {
        BudgetLimit::All => {
            format!("this process makes at most {MAX_CALLS} calls of this kind at once")
        }
        BudgetLimit::Tenant => {
            format!("a tenant makes at most {} calls of this kind at once", MAX_CALLS / 2)
        }
    };
    ApiError::too_many("too_many_direct_calls", format!("{limit}; try again in 1 s"), 1)
}

fn without_upstream(lane: &LaneName, path: &str) -> ApiError {
    let message = format!(
        "this process can call no upstream of the lane {lane}, and {path} does not go through the \
         queue; start the API with the upstream (--upstream URL, or `upstream` of the lane)"
    );
    ApiError::not_found("unsupported_by_upstream", message)
}

/// Returns the upstream's error unchanged if SDKs can read it, or else its message in our envelope.
fn refused(
    lane: &LaneName,
    path: &str,
    status_code: u16,
    body: &RawJson,
) -> Result<Response, ApiError> {
    let status = StatusCode::from_u16(status_code).unwrap_or(StatusCode::BAD_GATEWAY);
    let words = words(body);
    match status {
        // The caller's key is valid. The upstream refused the key of Causeway, which the caller cannot change.
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let message = format!(
                "the upstream of the lane {lane} refused Causeway's key with {status_code}: {words}"
            );
            Err(ApiError::upstream(false, message))
        }
        _ if has_error(path, body) => Ok(respond(status, body)),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            let message = format!(
                "the upstream of the lane {lane} has no {path}: it answered {status_code}: {words}"
            );
            Err(ApiError::not_found("unsupported_by_upstream", message))
        }
        _ => {
            let message =
                format!("the upstream of the lane {lane} answered {status_code}: {words}");
            Err(ApiError::invalid("upstream_refused", message).with_status(status))
        }
    }
}

/// True if `body` is an error in the envelope that the SDKs of `path` read.
fn has_error(path: &str, body: &RawJson) -> bool {
    let Ok(body) = RawObject::parse(body.as_str()) else { return false };
    // Anthropic's SDKs recognise an error by its `type`, OpenAI's by the member `error`.
    let is_enveloped = !is_anthropic(path) || body.get("type") == Some("\"error\"");
    is_enveloped && body.object("error").is_some()
}

/// Returns the upstream's message, shortened.
fn words(body: &RawJson) -> String {
    let object = RawObject::parse(body.as_str()).unwrap_or_default();
    let error = object.object("error");
    // `detail` is the member of FastAPI servers.
    let message = error.and_then(|error| error.text("message")).or_else(|| object.text("detail"));
    let message = message.or_else(|| text(body.as_str()));
    let message = message.unwrap_or_else(|| body.as_str().to_owned());
    message.chars().take(MAX_WORDS).collect()
}
