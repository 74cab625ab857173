//! Standard output and standard error of commands that print foreign text.
//!
//! Text of a model or a client may contain control characters that a terminal executes: they could
//! hide text, or write into other windows. On a terminal each becomes a `?`; files and pipes get
//! the text unchanged.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Stderr, Stdout, Write},
};

/// Replaces the control characters of `text`, except line ends and tabs.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_harmful) { text.replace(is_harmful, "?").into() } else { text.into() }
}

/// An output stream that may be a terminal.
#[derive(Debug)]
pub(crate) struct Screened<W> {
    to: W,
    is_terminal: bool,
}

/// Returns standard output.
pub(crate) fn stdout() -> Screened<Stdout> {
    let to = io::stdout();
    let is_terminal = to.is_terminal();
    Screened { to, is_terminal }
}

/// Returns standard error.
pub(crate) fn stderr() -> Screened<Stderr> {
    let to = io::stderr();
    let is_terminal = to.is_terminal();
    Screened { to, is_terminal }
}

impl<W: Write> Write for Screened<W> {
    /// Writes all of `bytes`. Callers in this program never split a character.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_terminal {
            let text = String::from_utf8_lossy(bytes);
            self.to.write_all(harmless(&text).as_bytes())?;
            return Ok(bytes.len());
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let text = "\u{1b}]0;title\u{7}ünï\r\n\tcode \u{9b}2J\n";
        for (is_terminal, written) in [(true, "?]0;title?ünï?\n\tcode ?2J\n"), (false, text)] {
            let mut screened = Screened { to: Vec::new(), is_terminal };
            write!(screened, "{text}").unwrap();
            assert_eq!(String::from_utf8(screened.to).unwrap(), written);
        }
    }
}
