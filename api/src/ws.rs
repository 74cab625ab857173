//! `GET /v1/ws`: one connection that submits, cancels and follows many jobs.
//!
//! Frames are JSON texts, described in [`frame`]. Each connection is a single task that reads a frame, answers it,
//! or sends an event. This bounds its memory: while a slow client does not read, its frames and events are not read
//! either, and events stay in the logs of their jobs. Jobs are independent of connections: closing one cancels
//! nothing, and another one resumes with `after`. A connection is closed when its key is revoked, and when its
//! client must continue at another process.

mod frame;
mod session;

use std::{fmt::Display, ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use axum::{
    extract::{
        Extension, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{Instrument as _, Span};

#[cfg(test)]
pub(crate) use self::session::MAX_FOLLOWED;
pub(crate) use self::session::Session;
use crate::{
    budget::Payer, caller::Caller, error::ApiError, origin, serve::connection::Connection,
    state::AppState,
};

/// The name of the subprotocol, for clients that offer names.
const PROTOCOL: &str = "causeway.v1";

/// The interval of pings.
pub(crate) const PING: Duration = Duration::from_secs(20);

/// Most consecutive pings without an answer.
const MAX_UNANSWERED: u32 = 2;

/// Longest time that a client may take to receive one frame.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for the closing handshake when the process stops; less than the time that connections have to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// Longest message of a client, in bytes, even if bodies may be longer. An incomplete message occupies memory.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Submits, cancels and follows many jobs over one WebSocket.
///
/// Frames are JSON texts. The client sends `{"op": "submit", "job": …, "follow": true}`,
/// `{"op": "follow", "job": "job_…", "after": N}`, `unfollow`, `cancel` and `ping`, each with an optional `ref`; the
/// server answers with the same `ref` and a `type`, and sends the events of followed jobs as
/// `{"job", "seq", "type", "data"}`. A message may be as long as a body, at most 4 MiB. Offer the protocols `causeway.v1`
/// and `causeway.key.<key>` where headers cannot be set. A frame after the key was revoked closes the connection with 1008.
#[utoipa::path(get, path = "/v1/ws", tag = "jobs", operation_id = "connect",
    params(("Sec-WebSocket-Protocol" = String, Header, description = "`causeway.v1`")),
    responses((status = 101, description = "The WebSocket is open"), (status = 403), (status = 426)))]
pub(crate) async fn connect(
    State(state): State<AppState>,
    caller: Caller,
    connection: Option<Extension<Arc<Connection>>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    // Browsers apply no same-origin policy to WebSockets, so the check is made here.
    if caller.key_sha256.is_none() && origin::is_foreign(&state, &headers) {
        return Err(ApiError::foreign_page());
    }
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!(
            "this route opens a WebSocket; call it with a WebSocket client ({})",
            rejection.body_text()
        );
        ApiError::invalid("upgrade_required", message)
            .with_status(StatusCode::UPGRADE_REQUIRED)
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })?;
    let longest = state.settings.max_body_bytes.min(MAX_MESSAGE_BYTES);
    // The process waits for open WebSockets, which outlive the task of their HTTP request.
    let background_task = state.background_tasks.token();
    let upgrade = upgrade.max_message_size(longest).max_frame_size(longest);
    let connection = connection.map(|Extension(connection)| connection);
    if let Some(connection) = &connection {
        let shares = caller.key_sha256.is_some();
        connection.become_websocket(Payer { tenant: caller.tenant.clone(), shares });
    }
    let span = Span::current();
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(async move |socket| {
        run(Session::new(state, caller, connection), socket).instrument(span).await;
        drop(background_task);
    }))
}

/// Serves `session` over `socket` until one of them ends.
pub(crate) async fn run<S, E>(mut session: Session, socket: S)
where
    S: Stream<Item = Result<Message, E>> + Sink<Message>,
    E: Display,
{
    let mut socket = pin!(socket);
    let (draining, stopping) = (session.state.draining.clone(), session.state.handover.clone());
    let mut revoked = pin!(session.state.tenants.clone().revoked(session.caller.clone()));
    let mut pings = interval_at(Instant::now() + PING, PING);
    // After a slow send, pings must not follow each other in a burst.
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unanswered = 0;
    let farewell = loop {
        let follows = session.follows();
        // A drain closes idle connections at once; followed jobs may still end.
        if draining.is_cancelled() && !follows {
            break Some(stopped());
        }
        let message = tokio::select! {
            received = socket.next() => {
                session.message_completed();
                // Any frame proves that the client is alive, not only a pong.
                unanswered = 0;
                match answer(&mut session, received).await {
                    ControlFlow::Continue(Some(text)) => text_frame(text),
                    ControlFlow::Continue(None) => continue,
                    ControlFlow::Break(farewell) => break farewell,
                }
            }
            Some(event) = session.next(), if follows => text_frame(event),
            _ = pings.tick() => {
                if unanswered == MAX_UNANSWERED {
                    break None;
                }
                unanswered += 1;
                Message::Ping(Vec::new().into())
            }
            () = &mut revoked => break Some(revoked_close()),
            // Only wakes the loop, which checks at its top whether to close.
            () = draining.cancelled(), if !draining.is_cancelled() => continue,
            () = stopping.cancelled() => {
                if send_remaining(&mut socket, &mut session).await.is_err() {
                    return;
                }
                break Some(stopped());
            }
        };
        if send(&mut socket, message, SEND_TIMEOUT).await.is_err() {
            return;
        }
    };
    if let Some(frame) = farewell {
        drop(send(&mut socket, Message::Close(Some(frame)), CLOSE_TIMEOUT).await);
    }
    // Also completes a closing handshake that the client started.
    drop(timeout(CLOSE_TIMEOUT, socket.close()).await);
}

/// Answers a received message: continues with a text to send, if any, or breaks with the close frame.
async fn answer<E: Display>(
    session: &mut Session,
    received: Option<Result<Message, E>>,
) -> ControlFlow<Option<CloseFrame>, Option<String>> {
    match received {
        None | Some(Ok(Message::Close(_))) => ControlFlow::Break(None),
        Some(Err(error)) => {
            ControlFlow::Break(Some(close(close_code::PROTOCOL, &error.to_string())))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => ControlFlow::Continue(None),
        Some(Ok(Message::Text(text))) => {
            if !session.reauthenticate() {
                return ControlFlow::Break(Some(revoked_close()));
            }
            ControlFlow::Continue(Some(session.answer(text.as_str()).await))
        }
        Some(Ok(Message::Binary(_))) => ControlFlow::Continue(Some(Session::refuse_binary())),
    }
}

/// Sends the events that are left when the process stops.
async fn send_remaining<S>(socket: &mut S, session: &mut Session) -> Result<(), Gone>
where
    S: Sink<Message> + Unpin,
{
    let until = Instant::now() + CLOSE_TIMEOUT;
    while let Some(event) = session.next().await {
        let left = until.saturating_duration_since(Instant::now());
        send(socket, text_frame(event), left).await?;
    }
    Ok(())
}

fn text_frame(text: String) -> Message {
    Message::Text(text.into())
}

/// The error of a client that did not receive a frame in time. The connection is unusable.
struct Gone;

async fn send<S>(socket: &mut S, message: Message, within: Duration) -> Result<(), Gone>
where
    S: Sink<Message> + Unpin,
{
    match timeout(within, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

fn stopped() -> CloseFrame {
    close(close_code::RESTART, "this process is stopping: connect again, and resume with `after`")
}

fn revoked_close() -> CloseFrame {
    close(
        close_code::POLICY,
        "the key of this connection is no longer valid: connect with another one",
    )
}

fn close(code: u16, reason: &str) -> CloseFrame {
    // A longer reason would make the close frame invalid.
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    let reason = reason.get(..end).unwrap_or_default();
    CloseFrame { code, reason: Utf8Bytes::from(reason) }
}
