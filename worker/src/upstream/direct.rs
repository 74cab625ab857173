//! Calls that bypass the queue: answers of endpoints without jobs are forwarded as they arrive.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::{
    answer,
    body::AnswerBody,
    call::{Call, Upstream as _},
    mask::masked,
    openai::OpenAi,
};
use crate::{
    attempt::{cause::cause, describe},
    failure::{ErrorResponse, Failure},
};

/// A successful answer while it is received.
pub struct ForwardedAnswer {
    /// The HTTP status, 200 to 299.
    pub status_code: u16,
    /// The content type of the body.
    pub content_type: Option<HeaderValue>,
    /// The decoded body. An error ends it.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

impl std::fmt::Debug for ForwardedAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardedAnswer")
            .field("status_code", &self.status_code)
            .finish_non_exhaustive()
    }
}

/// The reason why there is no successful answer.
#[derive(Debug)]
pub enum ForwardFailure {
    /// The upstream answered with an error status.
    Refused(Box<ErrorResponse>),
    /// The upstream gave no answer.
    NoAnswer {
        /// The cause, in words for people.
        message: String,
        /// True after a time-out.
        is_timeout: bool,
    },
}

impl OpenAi {
    /// Makes `call`; its content type is one of its headers. Returns the answer as soon as its head has arrived.
    ///
    /// # Errors
    /// If the upstream refuses the call, or gives no answer.
    pub async fn forward(&self, call: Call) -> Result<ForwardedAnswer, ForwardFailure> {
        let end = Instant::now() + self.timeouts.total;
        let answered = self.start(&call, end).await;
        answered.map_err(|failure| {
            // The message goes to the client, so the upstream's secrets are masked first.
            let failure = masked(failure, &self.client.secrets);
            let message = describe::message(&failure, self.target(&call.url).as_ref());
            forward_failure(failure, message, &call.url)
        })
    }

    async fn start(&self, call: &Call, end: Instant) -> Result<ForwardedAnswer, Failure> {
        let response = self.send(call).await?;
        let silence = self.timeouts.between_bytes;
        let response = answer::good(response, silence, &self.client.secrets).await?;
        let status_code = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let body = pieces(AnswerBody::of(response, silence).await?, end, self.timeouts.total);
        Ok(ForwardedAnswer { status_code, content_type, body })
    }
}

/// Returns the failure of a call with the message for its client.
fn forward_failure(failure: Failure, message: String, url: &str) -> ForwardFailure {
    // As for jobs: an upstream without a connection in time is unreachable, which is not a time-out.
    let is_timeout = cause(&failure, url).0.code() == "upstream_timeout";
    match failure {
        Failure::Refused(refusal) => ForwardFailure::Refused(refusal),
        _ => ForwardFailure::NoAnswer { message, is_timeout },
    }
}

/// Returns the pieces of a body, which must end by `end`.
fn pieces(
    body: AnswerBody,
    end: Instant,
    total: Duration,
) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        let piece = timeout_at(end, body.piece()).await;
        match piece.unwrap_or(Err(Failure::TotalTimeout(total))) {
            Ok(piece) => Some((Ok(piece?), Some(body))),
            // An error is the last item.
            Err(failure) => Some((Err(io::Error::other(failure)), None)),
        }
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests;
