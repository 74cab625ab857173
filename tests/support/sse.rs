//! Server-sent events, as a client reads them.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use serde_json::Value;

use super::soon;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// The events of one response, as they arrive.
pub(crate) struct Stream {
    source: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    read: String,
}

impl Stream {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { source: response.bytes_stream().boxed(), read: String::new() }
    }

    /// Returns the next event other than pings and comments; `None` at the end of the stream, also
    /// if it broke.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        soon("an event", async {
            loop {
                if let Some((block, rest)) = self.read.split_once("\n\n") {
                    let event = (!block.starts_with(':')).then(|| parse(block));
                    self.read = rest.to_owned();
                    if let Some(event) = event.filter(|event| event.kind != "ping") {
                        return Some(event);
                    }
                } else {
                    let piece = self.source.next().await?.ok()?;
                    self.read.push_str(std::str::from_utf8(&piece).expect("whole characters"));
                }
            }
        })
        .await
    }

    /// Returns the next event of this kind.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Event {
        loop {
            match self.next().await {
                Some(event) if event.kind == kind => return event,
                Some(_) => {}
                None => panic!("the stream ended before {kind}"),
            }
        }
    }

    /// Returns all further events.
    pub(crate) async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Event {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        block.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    let data = field("data").expect("an event has data");
    Event {
        kind: field("event").expect("an event has a kind"),
        id: field("id"),
        data: serde_json::from_str(&data).expect("its data is JSON"),
    }
}
