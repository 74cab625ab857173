//! Follows one job until it ends, over lost connections, and shows what happens.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{client::Client, sse::Event, table};

/// How often a lost connection is tried again before the reader gives up.
const TRIES: u32 = 10;

/// How long to wait before each of those but the first.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows job `id` until it has ended, shows its events on `screen`, and answers with the job.
///
/// # Errors
/// When there is no such job, or the server stays away.
pub(crate) async fn follow<O: Write, E: Write>(
    client: &Client,
    id: &str,
    screen: &mut Screen<O, E>,
) -> anyhow::Result<Value> {
    let mut last = None;
    let mut events = client.events(id, last).await?;
    let mut tries = 0;
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                tries = 0;
                last = event.id.or(last);
                if screen.show(&event)? == Ended::Yes {
                    return client.job(id).await;
                }
                if screen.may_wait(&event)
                    && let Some(words) = outage(client, id).await
                {
                    screen.tell_outage(&words)?;
                }
            }
            broken @ (Ok(None) | Err(_)) => {
                tries += 1;
                if tries > TRIES {
                    return match broken {
                        Err(error) => Err(error),
                        Ok(_) => client.job(id).await,
                    };
                }
                if tries > 1 {
                    sleep(PAUSE).await;
                }
                if let Ok(again) = client.events(id, last).await {
                    events = again;
                }
            }
        }
    }
}

/// Returns the upstream's words if the job waits for its lane's upstream. The job is followed all the same if the
/// server does not answer.
async fn outage(client: &Client, id: &str) -> Option<String> {
    let job = client.job(id).await.ok()?;
    if job["waiting_for"] != "upstream_down" {
        return None;
    }
    let queue = client.get(&["queue"]).await.ok()?;
    let lane = queue["lanes"].as_array()?.iter().find(|lane| lane["lane"] == job["lane"])?;
    let down = &lane["upstream_down"];
    (!down.is_null()).then(|| table::word(&down["message"]))
}

/// Whether an event was a job's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

/// What a reader wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Only the answer's text, as it comes.
    Text,
    /// The text, and what happens to the job.
    Everything,
    /// Nothing.
    Nothing,
}

/// Shows events: text on `out`, what happens on `err`.
#[derive(Debug)]
pub(crate) struct Screen<O, E> {
    out: O,
    err: E,
    show: Show,
    text: bool,
    /// True once an outage of the upstream is shown.
    is_outage_told: bool,
}

impl<O: Write, E: Write> Screen<O, E> {
    pub(crate) fn new(out: O, err: E, show: Show) -> Self {
        Self { out, err, show, text: false, is_outage_told: false }
    }

    /// Whether any text of the answer is shown so far.
    pub(crate) fn has_text(&self) -> bool {
        self.text
    }

    fn show(&mut self, event: &Event) -> io::Result<Ended> {
        let data = &event.data;
        let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        match event.name.as_str() {
            "job.queued" => self.tell(format_args!("queued"))?,
            "job.started" => self.tell(format_args!("started (attempt {})", number("attempt")))?,
            "job.retrying" => {
                let why = data.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                self.tell(format_args!("tries again in {} ms: {why}", number("in_ms")))?;
            }
            "output.delta" => {
                if let Some(text) = data.get("text").and_then(Value::as_str) {
                    self.add(text)?;
                }
            }
            "output.reset" if self.text => {
                self.end_text()?;
                if self.show != Show::Nothing {
                    writeln!(self.err, "[a new attempt: the answer starts again]")?;
                }
            }
            "job.succeeded" | "job.failed" | "job.cancelled" | "job.expired" => {
                self.end_text()?;
                self.tell(format_args!("{}", event.name.trim_start_matches("job.")))?;
                return Ok(Ended::Yes);
            }
            // Pings, and what later versions tell.
            _ => {}
        }
        Ok(Ended::No)
    }

    /// True if the job may wait for its upstream after this event, and a reader is yet to learn it.
    fn may_wait(&self, event: &Event) -> bool {
        let may_wait = matches!(event.name.as_str(), "job.queued" | "job.retrying" | "ping");
        may_wait && self.show == Show::Everything && !self.is_outage_told
    }

    fn tell_outage(&mut self, words: &str) -> io::Result<()> {
        self.is_outage_told = true;
        self.tell(format_args!("waiting: upstream down: {words}"))
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) -> io::Result<()> {
        if self.show == Show::Everything { writeln!(self.err, "{what}") } else { Ok(()) }
    }

    fn add(&mut self, text: &str) -> io::Result<()> {
        if self.show == Show::Nothing || text.is_empty() {
            return Ok(());
        }
        self.text = true;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn end_text(&mut self) -> io::Result<()> {
        if self.text { writeln!(self.out) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_and_news_go_apart() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::new(&mut out, &mut err, Show::Everything);
        let events = [
            ("job.queued", json!({})),
            ("job.started", json!({"attempt": 1})),
            ("output.delta", json!({"text": "Hel"})),
            ("job.retrying", json!({"in_ms": 20, "message": "cut off"})),
            ("output.reset", json!({})),
            ("output.delta", json!({"text": "Hello"})),
            ("ping", json!({})),
            ("job.succeeded", json!({})),
        ];
        let ends = events.map(|(name, data)| {
            screen.show(&Event { id: None, name: name.to_owned(), data }).unwrap()
        });
        assert!(screen.has_text());
        assert_eq!(ends.iter().filter(|end| **end == Ended::Yes).count(), 1);
        assert_eq!(String::from_utf8(out).unwrap(), "Hel\nHello\n");
        let err = String::from_utf8(err).unwrap();
        assert!(err.starts_with("queued\nstarted (attempt 1)\ntries again in 20 ms: cut off\n"));
        assert!(err.ends_with("succeeded\n"));
    }
}
