//! A parser of server-sent events (WHATWG HTML, section 9.2) in a byte stream.
//!
//! Two deviations: a line `error: …`, which older llama.cpp servers send, is an event with the name `error` and
//! these data; and an event with that name is dispatched even without data. `id` and `retry` are ignored, because
//! no model stream can be resumed.

use std::{borrow::Cow, ops::ControlFlow};

use memchr::memchr2;

use super::call::StreamEvent;
use crate::failure::Failure;

/// The name of events that report an error.
const ERROR: &str = "error";

/// The byte order mark of UTF-8, with which a stream may begin.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The parser; it accepts pieces of any size.
#[derive(Debug)]
pub struct EventReader {
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    /// True if the last piece ended with CR: a following LF belongs to it.
    after_return: bool,
    is_at_start: bool,
    bytes: usize,
    max_bytes: usize,
}

impl EventReader {
    /// Returns a parser of a stream of at most `max_bytes` bytes, comments and field names included.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let (line, name, data) = Default::default();
        Self {
            line,
            name,
            data,
            has_data: false,
            after_return: false,
            is_at_start: true,
            bytes: 0,
            max_bytes,
        }
    }

    /// Parses the next piece, and calls `sink` with every event that it completes. If the sink returns `Break`, the
    /// rest of the piece is not read.
    ///
    /// # Errors
    /// [`Failure::TooLarge`] if the stream exceeds its limit, and the errors of `sink`.
    pub fn feed(
        &mut self,
        piece: &[u8],
        mut sink: impl FnMut(StreamEvent<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        let room = self.max_bytes - self.bytes;
        let (mut rest, beyond) = piece.split_at(piece.len().min(room));
        self.bytes += rest.len();
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return)
                && let Some(behind) = rest.strip_prefix(b"\n")
            {
                rest = behind;
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                break;
            };
            let (line, behind) = rest.split_at(end);
            self.after_return = behind.starts_with(b"\r");
            rest = behind.get(1..).unwrap_or_default();
            if self.end_line(line, &mut sink)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if beyond.is_empty() {
            Ok(ControlFlow::Continue(()))
        } else {
            Err(Failure::TooLarge(self.max_bytes))
        }
    }

    /// Returns the number of bytes that are buffered until their event ends.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.line.len() + self.name.len() + self.data.len()
    }

    /// Parses the line that ends with `last`.
    fn end_line(
        &mut self,
        last: &[u8],
        sink: &mut impl FnMut(StreamEvent<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        let whole = if self.line.is_empty() {
            Cow::Borrowed(last)
        } else {
            self.line.extend_from_slice(last);
            Cow::Owned(std::mem::take(&mut self.line))
        };
        let mut line: &[u8] = &whole;
        if std::mem::take(&mut self.is_at_start) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(sink);
        }
        self.field(line);
        if let Cow::Owned(mut buffer) = whole {
            // Keeps the allocation for the next line that arrives in parts.
            buffer.clear();
            self.line = buffer;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn dispatch(
        &mut self,
        sink: &mut impl FnMut(StreamEvent<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        // By the standard an event without data is not dispatched.
        let is_event = std::mem::take(&mut self.has_data) || self.name == ERROR;
        let flow = match is_event {
            true => sink(StreamEvent { name: &self.name, data: &self.data }),
            false => Ok(ControlFlow::Continue(())),
        };
        self.name.clear();
        self.data.clear();
        flow
    }

    fn field(&mut self, line: &[u8]) {
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                (field, value.strip_prefix(b": ").or_else(|| value.strip_prefix(b":")))
            }
            None => (line, None),
        };
        // A line break is never within a character, so a character that was cut between two pieces is whole here.
        let value = || String::from_utf8_lossy(value.unwrap_or_default());
        match field {
            b"data" => self.add(&value()),
            b"event" => {
                self.name.clear();
                self.name.push_str(&value());
            }
            b"error" => {
                ERROR.clone_into(&mut self.name);
                self.add(&value());
            }
            _ => {}
        }
    }

    fn add(&mut self, value: &str) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push('\n');
        }
        self.data.push_str(value);
    }
}

#[cfg(test)]
mod tests;
