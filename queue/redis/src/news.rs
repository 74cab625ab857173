//! The subscription of this process, which passes published news to the local listeners.
//!
//! A message holds one or more news, framed as the scripts write them: `E` id letter (ended), `C` id (cancel), `V` id
//! letter seq length data (event). Messages are lost while the connection is down; afterwards every listener receives
//! [`News::Missed`]. A connection may also fail silently, so the server is pinged periodically.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::{
    Value,
    aio::{PubSub, PubSubSink},
};
use tokio::time::{sleep, timeout};

use super::{
    connector::ANSWER, keys, pool::Connections, record, server::Server, unavailable::unavailable,
};
use causeway_queue::{
    error::Error,
    event::{Event, EventKind},
    id::Shard,
    json::RawJson,
    news::{News, Switchboard},
    state::Status,
};

/// The first and the longest pause before a broken subscription is renewed; the pause doubles.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The pause after each reply to a ping before the next ping.
const PING_INTERVAL: Duration = Duration::from_secs(3);

const ID_BYTES: usize = 26;

/// The letter of each kind of event.
const KINDS: [(u8, EventKind); 9] = [
    (b'Q', EventKind::Queued),
    (b'S', EventKind::Started),
    (b'D', EventKind::Delta),
    (b'R', EventKind::Retrying),
    (b'X', EventKind::Reset),
    (b's', EventKind::Succeeded),
    (b'f', EventKind::Failed),
    (b'c', EventKind::Cancelled),
    (b'x', EventKind::Expired),
];

/// Returns the letter of `kind` in an event log.
pub(super) fn letter(kind: EventKind) -> u8 {
    KINDS.iter().find(|(_, other)| *other == kind).map_or(b'?', |(letter, _)| *letter)
}

/// Returns the kind of event of `letter`.
pub(super) fn kind(letter: u8) -> Option<EventKind> {
    KINDS.iter().find(|(other, _)| *other == letter).map(|(_, kind)| *kind)
}

/// Listens until the process ends, and renews the subscription whenever it breaks.
pub(super) async fn listen(connections: Arc<Connections>, board: Arc<Switchboard>) {
    let mut pause = RECONNECT.0;
    loop {
        match subscribe(&connections, &board).await {
            Ok(()) => pause = RECONNECT.0,
            Err(error) => {
                tracing::debug!(%error, pause_ms = pause.as_millis(), "cannot subscribe to the store's news");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// Checks that the user may publish and subscribe. Without that right, every end would be noticed only by polling.
pub(super) async fn check(server: &Server) -> Result<(), Error> {
    let _receivers: i64 = server.ask(redis::cmd("PUBLISH").arg(keys::NO_NEWS).arg("")).await?;
    let mut subscription = server.connections.subscription().await?;
    let subscribed = timeout(ANSWER, subscription.psubscribe(keys::NEWS)).await;
    subscribed.map_err(unavailable)?.map_err(unavailable)
}

/// Runs one subscription until it ends.
async fn subscribe(connections: &Connections, board: &Switchboard) -> Result<(), Error> {
    let replaced = connections.replaced();
    let subscription = connections.subscription().await?;
    tokio::select! {
        ended = follow(subscription, board) => ended,
        // A replica receives messages of the new master late, or never.
        () = replaced => Ok(()),
    }
}

/// Passes messages on until the subscription ends, or the server stops answering.
async fn follow(subscription: PubSub, board: &Switchboard) -> Result<(), Error> {
    let (mut sink, mut messages) = subscription.split();
    let subscribed = timeout(ANSWER, sink.psubscribe(keys::NEWS)).await;
    subscribed.map_err(unavailable)?.map_err(unavailable)?;
    // All earlier news was lost.
    board.tell_all_missed();
    let mut silent = pin!(until_silent(sink));
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = &mut silent => None,
        };
        let Some(message) = message else { break };
        // Other channels of the pattern, such as `NO_NEWS`, have no news.
        if let Some(shard) = keys::shard_of_channel(message.get_channel_name()) {
            publish_all(&shard, message.get_payload_bytes(), board);
        }
    }
    board.tell_all_missed();
    Ok(())
}

/// Completes when the server stops answering.
async fn until_silent(mut sink: PubSubSink) {
    loop {
        sleep(PING_INTERVAL).await;
        if !matches!(timeout(ANSWER, sink.ping::<Value>()).await, Ok(Ok(_))) {
            return;
        }
    }
}

fn publish_all(shard: &Shard, mut message: &[u8], board: &Switchboard) {
    while !message.is_empty() {
        if publish(shard, &mut message, board).is_none() {
            tracing::warn!(shard = %shard, "cannot read news from the store, so listeners read the store again");
            return board.tell_all_missed();
        }
    }
}

/// Takes one news from the front of `message` and passes it on; `None` if it cannot be read. The data of an event is
/// parsed only if a listener follows the job.
fn publish(shard: &Shard, message: &mut &[u8], board: &Switchboard) -> Option<()> {
    let what = take(message, 1)?[0];
    let key = std::str::from_utf8(take(message, ID_BYTES)?).ok()?;
    let id = record::job_id(shard, key).ok()?;
    match what {
        b'E' => board.tell(&id, News::Ended(Status::from_code(take(message, 1)?[0])?)),
        b'C' => board.tell(&id, News::Cancel),
        b'V' => {
            let kind = kind(take(message, 1)?[0])?;
            let seq = u32::from_be_bytes(take(message, 4)?.try_into().ok()?);
            let length = u32::from_be_bytes(take(message, 4)?.try_into().ok()?);
            let data = take(message, usize::try_from(length).ok()?)?;
            if board.is_followed(&id) {
                let data = RawJson::parse(String::from_utf8(data.to_vec()).ok()?).ok()?;
                board.tell(&id, News::Event(Arc::new(Event { seq: seq.into(), kind, data })));
            }
        }
        _ => return None,
    }
    Some(())
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;
