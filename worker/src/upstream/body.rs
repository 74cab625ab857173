//! The body of an answer, piece by piece: decoded, with a time-out for each piece.

use std::{error::Error, io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Response;
use tokio::time::timeout;
use tokio_util::io::{ReaderStream, StreamReader};

use super::{
    coding::{self, Decoded},
    error_body::MAX_ERROR_BYTES,
    mask::hidden_in_body,
    memory::Share,
    secret::UpstreamSecret,
};
use crate::failure::{Failure, NoAnswer};

/// Bytes of one decoded piece. Small pieces bound what a short compressed body can expand to before it is counted.
const PIECE: usize = 16 << 10;

/// Time-out of reading the body of an error. Its status is enough to classify it.
const ERROR_BODY: Duration = Duration::from_secs(10);

/// Error codes of the system for resources that this machine lacks: files, memory, buffers. `EADDRNOTAVAIL` is not
/// among them: it means a lack of ports, but also an IPv6 address on a machine without IPv6.
const LACKS: [i32; 4] = [ENOMEM, ENFILE, EMFILE, ENOBUFS];
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

/// The body of a response while it is received.
pub(super) struct AnswerBody {
    status_code: u16,
    pieces: Pieces,
}

/// The source of the pieces.
enum Pieces {
    /// The pieces as they arrive.
    Plain { response: Response, silence: Duration },
    /// The decoded pieces.
    Decoded(ReaderStream<Decoded>),
}

impl AnswerBody {
    /// Returns the body of `response`; `silence` is the time-out between two pieces.
    ///
    /// # Errors
    /// If its coding is unknown, or if its first piece does not arrive.
    pub(super) async fn of(response: Response, silence: Duration) -> Result<Self, Failure> {
        let status_code = response.status().as_u16();
        let codings = coding::codings(response.headers()).map_err(|name| Failure::NoAnswer {
            status_code: Some(status_code),
            what: NoAnswer::Coding(name),
        })?;
        if codings.is_empty() {
            return Ok(Self { status_code, pieces: Pieces::Plain { response, silence } });
        }
        let coded = stream::unfold(response, move |mut response| async move {
            let piece = piece(&mut response, silence).await.map_err(io::Error::other);
            Some((piece.transpose()?, response))
        });
        let coded = Box::pin(StreamReader::new(coded.boxed()));
        let decoded = coding::decode_all(coded, &codings).await;
        let decoded = decoded.map_err(|error| undecoded(status_code, error))?;
        let pieces = Pieces::Decoded(ReaderStream::with_capacity(decoded, PIECE));
        Ok(Self { status_code, pieces })
    }

    /// Returns the next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        match &mut self.pieces {
            Pieces::Plain { response, silence } => piece(response, *silence).await,
            Pieces::Decoded(pieces) => {
                // One compressed read may yield many pieces without a wait: this lets other tasks run.
                tokio::task::consume_budget().await;
                let piece = pieces.try_next().await;
                piece.map_err(|error| undecoded(self.status_code, error))
            }
        }
    }

    /// Returns the whole body, which begins with `start`.
    ///
    /// # Errors
    /// If it has more than `max_bytes` in all, or breaks off.
    pub(super) async fn rest(
        &mut self,
        start: BytesMut,
        max_bytes: usize,
        memory: &Share,
    ) -> Result<BytesMut, Failure> {
        let mut body = start;
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > max_bytes {
                return Err(Failure::TooLarge(max_bytes));
            }
            memory.hold(body.len() + piece.len()).await?;
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Returns the beginning of an error's body, as far as it arrives, masked for `secrets`.
    pub(super) async fn beginning(mut self, start: BytesMut, secrets: &[UpstreamSecret]) -> String {
        let mut body = start;
        let read = async {
            while body.len() <= MAX_ERROR_BYTES
                && let Ok(Some(piece)) = self.piece().await
            {
                body.extend_from_slice(&piece);
            }
        };
        // A time-out is an expected end: the part that has arrived is enough.
        drop(timeout(ERROR_BODY, read).await);
        body.truncate(MAX_ERROR_BYTES);
        let text = String::from_utf8_lossy(&body);
        hidden_in_body(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(), secrets)
    }
}

async fn piece(response: &mut Response, silence: Duration) -> Result<Option<Bytes>, Failure> {
    match timeout(silence, response.chunk()).await {
        Err(_) => Err(Failure::Stalled(silence)),
        Ok(Err(error)) => Err(Failure::Cut(root_cause(&error))),
        Ok(Ok(piece)) => Ok(piece),
    }
}

/// Returns the failure of a body that could not be decoded: of its connection, an early end, or invalid bytes.
fn undecoded(status_code: u16, error: io::Error) -> Failure {
    let why = error.to_string();
    // The zlib decoders report a body that ends early as a lack of bytes in the buffer.
    if error.kind() == io::ErrorKind::UnexpectedEof || why.contains("BufError") {
        return Failure::Cut("the compressed body ends early".to_owned());
    }
    let inner = error.into_inner().and_then(|inner| inner.downcast::<Failure>().ok());
    inner.map_or_else(
        || {
            let what = NoAnswer::Unreadable(format!("a body that cannot be decompressed: {why}"));
            Failure::NoAnswer { status_code: Some(status_code), what }
        },
        |failure| *failure,
    )
}

/// Returns the failure of a request without a response.
pub(crate) fn unsent(error: &reqwest::Error) -> Failure {
    let why = root_cause(error);
    // The order matters: a lack of file descriptors is reported as a connect error, too.
    if chain(error).any(is_local_lack) {
        Failure::Exhausted(why)
    } else if error.is_builder() {
        Failure::Unsendable(why)
    } else if error.is_connect() && error.is_timeout() {
        Failure::ConnectTimeout
    } else if error.is_connect() {
        Failure::Connect(why)
    // The peer answered with another protocol, such as TLS or an SSH banner.
    } else if why.starts_with("invalid HTTP") {
        let what = NoAnswer::Unreadable(format!("no HTTP ({why})"));
        Failure::NoAnswer { status_code: None, what }
    } else {
        Failure::Cut(why)
    }
}

fn is_local_lack(error: &(dyn Error + 'static)) -> bool {
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    code.is_some_and(|code| LACKS.contains(&code))
}

/// Returns the error and its causes, the outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns the innermost cause of an error in plain words, without the URL.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let text = chain(error).last().map(ToString::to_string).unwrap_or_default();
    let text = text.split(" (os error").next().unwrap_or_default();
    let text = uncapitalized(text);
    if chain(error).any(|link| link.to_string() == "dns error") {
        return format!("DNS: {text}");
    }
    if chain(error).any(is_tls) { format!("TLS: {text}") } else { text }
}

/// Returns `text` with a lower-case first letter, unless its first word is an acronym such as `SOCKS`.
fn uncapitalized(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) if !rest.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(rest).collect()
        }
        Some(_) | None => text.to_owned(),
    }
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let is_inner = inner.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>);
    error.is::<rustls::Error>() || is_inner
}

#[cfg(test)]
mod tests;
