//! Reads a response as the answer to a call: whole or streamed, an error, or not an answer.
//!
//! A success status alone proves nothing: the first bytes show the kind of the body, and a whole body must have the
//! shape of its endpoint. A body that fails this check is never treated as an answer.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use causeway_queue::RawJson;
use reqwest::{Response, StatusCode, header};

use super::{
    body::AnswerBody,
    call::{Answer, Call, Sink, StreamEvent},
    error_body::{ErrorBody, clean, title},
    offload::on_body,
    retry_after::{rate_reset, retry_after, should_retry},
    secret::UpstreamSecret,
    shape::{BodyShape, Endpoint, shape},
    sniff::{BodyKind, sniff},
    sse::EventReader,
    target::CallTarget,
};
use crate::{
    assembly::convert::events_of,
    failure::{ErrorResponse, Failure, NoAnswer},
};

/// The byte order mark of UTF-8. Some servers write it before JSON, where it is not allowed (RFC 8259, section 8.1).
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads `response` to `call`. `silence` is the time-out between two pieces of the body. Events of a stream go to
/// `sink`. Quotations from a body that is not an answer are masked for `secrets`.
pub(super) async fn read(
    response: Response,
    call: &Call,
    sink: &mut dyn Sink,
    silence: Duration,
    secrets: &[UpstreamSecret],
) -> Result<Answer, Failure> {
    let response = good(response, silence, secrets).await?;
    let status = response.status();
    let no_answer = |what| Failure::NoAnswer { status_code: Some(status.as_u16()), what };
    let head = Head::of(&response);
    let mut body = AnswerBody::of(response, silence).await?;
    let (start, kind) = opening(&mut body, call, head.is_events).await?;
    match kind {
        BodyKind::Empty if head.is_events => {
            Err(Failure::Cut("the stream ended before its first event".to_owned()))
        }
        BodyKind::Empty => Err(no_answer(NoAnswer::Empty)),
        BodyKind::Page => {
            let page = body.beginning(start, secrets).await;
            Err(no_answer(NoAnswer::WebPage(title(&page).and_then(clean))))
        }
        BodyKind::Text => {
            let text = clean(&body.beginning(start, secrets).await).unwrap_or_default();
            Err(no_answer(NoAnswer::Unreadable(format!("text that is not JSON: {text}"))))
        }
        // The caller assembles the events of a stream that was not requested.
        BodyKind::Events => {
            stream(body, start, call, sink).await?;
            Ok(Answer { status_code: status.as_u16(), body: Bytes::new() })
        }
        BodyKind::Json => {
            let whole = body.rest(start, call.max_bytes, &call.memory).await?.freeze();
            check(&whole, call, &head).await?;
            if call.stream {
                return in_events(&head, call, whole, sink).await;
            }
            Ok(head.answer(whole))
        }
    }
}

/// Returns `response` if its status announces a body with an answer.
///
/// # Errors
/// If it is an error or a redirect, or has no body.
pub(super) async fn good(
    response: Response,
    silence: Duration,
    secrets: &[UpstreamSecret],
) -> Result<Response, Failure> {
    let status = response.status();
    if status.as_u16() >= 400 {
        return Err(refusal(response, silence, secrets).await);
    }
    let no_answer = |what| Failure::NoAnswer { status_code: Some(status.as_u16()), what };
    if status.is_redirection() {
        return Err(no_answer(NoAnswer::Redirect(location(&response))));
    }
    if !status.is_success() || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT)
    {
        return Err(no_answer(NoAnswer::Empty));
    }
    Ok(response)
}

/// The part of a response's head that is needed after its body was read.
struct Head {
    status_code: u16,
    is_events: bool,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
}

impl Head {
    fn of(response: &Response) -> Self {
        let headers = response.headers();
        let kind = headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        Self {
            status_code: response.status().as_u16(),
            is_events: kind.starts_with(b"text/event-stream"),
            retry_after: retry_after(headers),
            should_retry: should_retry(headers),
        }
    }

    fn answer(&self, body: Bytes) -> Answer {
        Answer { status_code: self.status_code, body }
    }

    fn refusal(&self, text: String) -> Failure {
        let body = RawJson::parse(text).unwrap_or_else(|_| RawJson::default());
        let Self { status_code, retry_after, should_retry, .. } = *self;
        let code = ErrorBody::read(&body).code();
        Failure::Refused(Box::new(ErrorResponse {
            status_code,
            retry_after,
            should_retry,
            code,
            body,
        }))
    }
}

/// Returns the target of a redirect, without user info and query.
pub(super) fn location(response: &Response) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    Some(CallTarget::from(&response.url().join(location).ok()?).url)
}

/// Reads the beginning of the body until its kind is known, and removes a byte order mark.
async fn opening(
    body: &mut AnswerBody,
    call: &Call,
    is_events: bool,
) -> Result<(BytesMut, BodyKind), Failure> {
    let mut start = BytesMut::new();
    let mut dropped = 0;
    loop {
        let piece = body.piece().await?;
        let is_all = piece.is_none();
        start.extend_from_slice(&piece.unwrap_or_default());
        // The bytes so far may be the beginning of a byte order mark.
        if dropped == 0 && !is_all && BOM.starts_with(&start) {
            continue;
        }
        if dropped == 0 && start.starts_with(BOM) {
            start.advance(BOM.len());
            dropped = BOM.len();
        }
        if dropped + start.len() > call.max_bytes {
            return Err(Failure::TooLarge(call.max_bytes));
        }
        call.memory.hold(start.len()).await?;
        if let Some(kind) = sniff(&start, is_events, is_all) {
            return Ok((start, kind));
        }
        // Leading blanks are dropped: otherwise each piece would scan them again.
        if start.trim_ascii().is_empty() {
            dropped += start.len();
            start.clear();
        }
    }
}

/// Forwards the events of a stream until its last one.
async fn stream(
    mut body: AnswerBody,
    start: BytesMut,
    call: &Call,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let mut reader = EventReader::new(call.max_bytes);
    let mut piece = start.freeze();
    loop {
        if reader.feed(&piece, |event| sink.event(event))?.is_break() {
            return Ok(());
        }
        call.memory.hold(sink.held() + reader.pending()).await?;
        piece = match body.piece().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            // The answer is complete, so the broken connection does no harm.
            Err(_) if sink.is_complete() => return Ok(()),
            Err(failure) => return Err(failure),
        };
    }
}

/// Checks that `body` is an answer of the endpoint.
async fn check(body: &Bytes, call: &Call, head: &Head) -> Result<(), Failure> {
    let endpoint = Endpoint::of(&call.url);
    let text = body.clone();
    let shape = on_body(body.len(), move || shape(endpoint, &String::from_utf8_lossy(&text)));
    match shape.await? {
        BodyShape::Answer => Ok(()),
        BodyShape::Error => Err(head.refusal(String::from_utf8_lossy(body).into_owned())),
        BodyShape::Half(why) => Err(Failure::Cut(why)),
        BodyShape::Other(what) => {
            let what = NoAnswer::Unreadable(what);
            Err(Failure::NoAnswer { status_code: Some(head.status_code), what })
        }
    }
}

/// Forwards a whole answer as the events of a stream, because the call requested one.
async fn in_events(
    head: &Head,
    call: &Call,
    whole: Bytes,
    sink: &mut dyn Sink,
) -> Result<Answer, Failure> {
    let url = call.url.clone();
    let events = on_body(whole.len(), move || {
        let whole = RawJson::parse(String::from_utf8_lossy(&whole).into_owned()).ok()?;
        events_of(&url, &whole)
    });
    let no_answer =
        Failure::NoAnswer { status_code: Some(head.status_code), what: NoAnswer::Whole };
    let events = events.await?.ok_or(no_answer)?;
    for event in events.iter().map(String::as_str).chain(["[DONE]"]) {
        if sink.event(StreamEvent::unnamed(event))?.is_break() {
            break;
        }
    }
    Ok(head.answer(Bytes::new()))
}

/// Returns the failure of an answer with an error status.
async fn refusal(response: Response, silence: Duration, secrets: &[UpstreamSecret]) -> Failure {
    let headers = response.headers();
    let status_code = response.status().as_u16();
    let of_rate = || rate_reset(headers).filter(|_| matches!(status_code, 429 | 498));
    let retry_after = retry_after(headers).or_else(of_rate);
    let should_retry = should_retry(headers);
    let text = match AnswerBody::of(response, silence).await {
        Ok(body) => body.beginning(BytesMut::new(), secrets).await,
        // The status and the headers are enough to classify the failure.
        Err(_) => String::new(),
    };
    let body = RawJson::parse(text.clone()).unwrap_or_else(|_| RawJson::string(&text));
    let code = ErrorBody::read(&body).code();
    Failure::Refused(Box::new(ErrorResponse { status_code, retry_after, should_retry, code, body }))
}

#[cfg(test)]
mod tests;
