//! Decodes server-sent events as Causeway sends them: blocks of `event:`, `id:` and JSON `data:`
//! lines that end with an empty line (WHATWG HTML, section 9.2). Other fields are ignored.

use serde_json::Value;

/// The longest block, in bytes. A server that sends longer ones is not Causeway.
const MAX_BLOCK: usize = 64 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerEvent {
    /// The event's number, from which a client resumes.
    pub(crate) id: Option<u64>,
    /// The kind of event, e.g. `job.started`.
    pub(crate) name: String,
    /// The event's data.
    pub(crate) data: Value,
}

/// Decodes events from bytes, wherever their pieces are cut.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    id: Option<u64>,
    name: String,
    data: String,
}

/// The error of a block longer than [`MAX_BLOCK`].
#[derive(Debug)]
pub(crate) struct TooLong;

impl Decoder {
    /// Returns the events that `bytes` complete.
    ///
    /// # Errors
    /// If a block is longer than 64 MiB.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<ServerEvent>, TooLong> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // An endless block must not exhaust the memory.
            if self.line.len() + part.len() + self.data.len() > MAX_BLOCK {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            let (id, name) = (self.id.take(), std::mem::take(&mut self.name));
            let data = std::mem::take(&mut self.data);
            let data = serde_json::from_str(&data).unwrap_or_default();
            return (!name.is_empty()).then_some(ServerEvent { id, name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.name),
            // JSON is independent of line ends, so the lines are joined without one.
            "data" => self.data.push_str(value),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn split_pieces_yield_the_same_events() {
        let text = "event: job.queued\r\nid: 0\r\ndata: {\"position\":3}\r\n\r\n: comment\n\n\
            id: 1\nevent: output.delta\ndata: {\"text\":\ndata: \"häß\"}\n\nevent: ping\ndata: {}\n\n";
        let event = |id, name: &str, data| ServerEvent { id, name: name.to_owned(), data };
        let expected = [
            event(Some(0), "job.queued", json!({"position": 3})),
            event(Some(1), "output.delta", json!({"text": "häß"})),
            event(None, "ping", json!({})),
        ];
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let events: Vec<ServerEvent> =
                text.as_bytes().chunks(size).flat_map(|part| decoder.push(part).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
