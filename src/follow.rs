//! Follows one job to its end, over lost connections, and prints its events.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::ProgressBar;
use serde_json::Value;
use tokio::time::{Instant, interval_at, sleep};

use crate::{client::Client, sse::ServerEvent, wait_reason};

/// The most consecutive failed connections before the client gives up.
const MAX_RECONNECTS: u32 = 10;

/// The pause before each reconnection but the first.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The time without an event after which the state of the job is fetched, for the reason of its
/// wait, its position and expected wait.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// Follows job `id` until it has ended and prints its events and its wait on `screen`; returns the
/// job.
///
/// # Errors
/// If there is no such job, or the server stays unreachable.
pub(crate) async fn follow<O: Write, E: Write>(
    client: &Client,
    id: &str,
    screen: &mut Screen<O, E>,
) -> anyhow::Result<Value> {
    let mut last = None;
    let mut events = client.events(id, last).await?;
    let mut tries = 0;
    let mut looks = interval_at(Instant::now() + STATE_INTERVAL, STATE_INTERVAL);
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            _ = looks.tick() => {
                // A job that started waits again, without an event, if its lane fails.
                // An unreadable state is no reason to end: the event stream still runs.
                if let Ok(job) = client.job(id).await {
                    screen.show_wait(&job)?;
                }
                continue;
            }
        };
        match next {
            Ok(Some(event)) => {
                if event.name != "ping" {
                    looks.reset();
                }
                // Only consecutive failures count.
                tries = 0;
                // Pings have no number.
                last = event.id.or(last);
                if screen.show(&event)? == Ended::Yes {
                    return client.job(id).await;
                }
            }
            Ok(None) | Err(_) => {
                tries += 1;
                // The job may have ended although its events are out of reach.
                if tries > MAX_RECONNECTS {
                    return client.job(id).await;
                }
                if tries > 1 {
                    sleep(RECONNECT_PAUSE).await;
                }
                if let Ok(again) = client.events(id, last).await {
                    events = again;
                }
            }
        }
    }
}

/// The answer to whether an event was a job's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

/// The part of the events that is printed, in addition to the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Only the text of the answer, as it arrives.
    Text,
    /// The text, and the changes of the job's state.
    Everything,
    /// Nothing.
    Nothing,
}

/// Prints events: the text on `out`, state changes on `err`.
#[derive(Debug)]
pub(crate) struct Screen<O, E> {
    out: O,
    err: E,
    show: Show,
    text: bool,
    /// The line with the current wait, if standard error is a terminal.
    line: Option<ProgressBar>,
    /// The reason that was printed last, if standard error is no terminal.
    reason: Value,
}

impl<O: Write, E: Write> Screen<O, E> {
    pub(crate) fn new(out: O, err: E, show: Show) -> Self {
        Self { out, err, show, text: false, line: None, reason: Value::Null }
    }

    /// Returns true if a part of the answer was printed.
    pub(crate) fn has_text(&self) -> bool {
        self.text
    }

    fn show(&mut self, event: &ServerEvent) -> io::Result<Ended> {
        let data = &event.data;
        if event.name != "ping" {
            self.clear();
            if !matches!(event.name.as_str(), "job.queued" | "job.retrying") {
                self.reason = Value::Null;
            }
        }
        let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        match event.name.as_str() {
            "job.queued" => self.write_state(format_args!("queued"))?,
            "job.started" => {
                self.write_state(format_args!("started (attempt {})", number("attempt")))?;
            }
            "job.retrying" => {
                let why = data.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                self.write_state(format_args!("retries in {} ms: {why}", number("in_ms")))?;
            }
            "output.delta" => {
                if let Some(text) = data.get("text").and_then(Value::as_str) {
                    self.write_text(text)?;
                }
            }
            // The new attempt starts the answer anew: the printed text is void.
            "output.reset" if self.text => {
                self.end_text()?;
                if self.show != Show::Nothing {
                    writeln!(self.err, "[a new attempt: the answer starts again]")?;
                }
            }
            "job.succeeded" | "job.failed" | "job.cancelled" | "job.expired" => {
                self.end_text()?;
                self.write_state(format_args!("{}", event.name.trim_start_matches("job.")))?;
                return Ok(Ended::Yes);
            }
            // Pings, and events of later versions.
            _ => {}
        }
        Ok(Ended::No)
    }

    /// Prints the reason of the wait: on a terminal in one changing line, elsewhere a line for each
    /// new reason.
    fn show_wait(&mut self, job: &Value) -> io::Result<()> {
        let Some(text) = wait_reason::line(job) else {
            self.clear();
            return Ok(());
        };
        let line = self.line.get_or_insert_with(ProgressBar::new_spinner);
        if !line.is_hidden() {
            line.set_message(text);
            return Ok(());
        }
        if std::mem::replace(&mut self.reason, job["waiting_for"].clone()) == self.reason {
            return Ok(());
        }
        writeln!(self.err, "{text}")
    }

    /// Removes the changing line.
    fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }

    fn write_state(&mut self, what: std::fmt::Arguments<'_>) -> io::Result<()> {
        if self.show == Show::Everything { writeln!(self.err, "{what}") } else { Ok(()) }
    }

    fn write_text(&mut self, text: &str) -> io::Result<()> {
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
    fn each_reason_is_printed_once() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::new(&mut out, &mut err, Show::Nothing);
        for (reason, position) in [("no_worker", 1), ("no_worker", 1), ("turn", 1), ("turn", 0)] {
            screen.show_wait(&json!({"waiting_for": reason, "position": position})).unwrap();
        }
        screen.show_wait(&json!({"status": "running", "waiting_for": null})).unwrap();
        let err = String::from_utf8(err).unwrap();
        let reasons: Vec<&str> =
            err.lines().map(|line| line.split(['(', ')']).nth(1).unwrap()).collect();
        assert_eq!(reasons, ["no_worker", "turn"], "{err}");
    }

    #[test]
    fn text_and_state_use_separate_streams() {
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
            screen.show(&ServerEvent { id: None, name: name.to_owned(), data }).unwrap()
        });
        assert!(screen.has_text());
        assert_eq!(ends.iter().filter(|end| **end == Ended::Yes).count(), 1);
        assert_eq!(String::from_utf8(out).unwrap(), "Hel\nHello\n");
        let err = String::from_utf8(err).unwrap();
        assert!(err.starts_with("queued\nstarted (attempt 1)\nretries in 20 ms: cut off\n"));
        assert!(err.ends_with("succeeded\n"));
    }
}
