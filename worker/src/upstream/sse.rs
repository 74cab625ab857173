//! Server-sent events (WHATWG HTML, section 9.2) as a byte stream brings them. Only `data` is kept:
//! what the APIs of models use.

/// Puts events together from pieces of any size.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    after_return: bool,
}

impl EventReader {
    /// Takes the next piece; calls `event` with the data of every event that it completes, and
    /// stops when that answers an error.
    ///
    /// # Errors
    /// What `event` answered.
    pub fn feed<E>(
        &mut self,
        piece: &[u8],
        mut event: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in piece {
            match byte {
                // The second half of a line end that was seen already.
                b'\n' if std::mem::take(&mut self.after_return) => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    self.end_line(&mut event)?;
                }
                _ => {
                    self.after_return = false;
                    self.line.push(*byte);
                }
            }
        }
        Ok(())
    }

    /// How many bytes wait for the end of their event.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn end_line<E>(&mut self, event: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return if std::mem::take(&mut self.has_data) { event(&data) } else { Ok(()) };
        }
        if let Some(value) = line.strip_prefix(b"data") {
            let value = match value {
                [] => value,
                [b':', b' ', rest @ ..] | [b':', rest @ ..] => rest,
                _ => return Ok(()),
            };
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut reader, mut events) = (EventReader::default(), Vec::new());
        for piece in pieces {
            let take = |data: &str| {
                events.push(data.to_owned());
                Ok::<(), Infallible>(())
            };
            reader.feed(piece, take).unwrap();
        }
        events
    }

    const STREAM: &str =
        ": hello\n\ndata: {\"a\":\"ü\"}\n\nevent: x\r\ndata:1\r\ndata: 2\r\n\r\nid: 3\n\ndata\n\n";

    #[test]
    fn events_are_read_whatever_the_pieces() {
        let wanted = ["{\"a\":\"ü\"}", "1\n2", ""];
        assert_eq!(read(&[STREAM.as_bytes()]), wanted);
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), wanted);
    }

    #[test]
    fn an_event_without_its_end_is_not_read() {
        assert!(read(&[b"data: half\n"]).is_empty());
    }
}
