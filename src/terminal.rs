//! Standard output and standard error of the commands that print what others wrote.
//!
//! What a model or a client wrote may hold control characters that a terminal obeys: they could hide text, or
//! write into other windows. On a terminal each becomes a `?`; into a file or a pipe text goes as it is.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Stderr, Stdout, Write},
};

/// `text` without control characters, but with line ends and tabs.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_harmful) { text.replace(is_harmful, "?").into() } else { text.into() }
}

/// A stream that people may look at.
#[derive(Debug)]
pub(crate) struct Screened<W> {
    to: W,
    is_terminal: bool,
}

/// Standard output.
pub(crate) fn stdout() -> Screened<Stdout> {
    let to = io::stdout();
    let is_terminal = to.is_terminal();
    Screened { to, is_terminal }
}

/// Standard error.
pub(crate) fn stderr() -> Screened<Stderr> {
    let to = io::stderr();
    let is_terminal = to.is_terminal();
    Screened { to, is_terminal }
}

impl<W: Write> Write for Screened<W> {
    /// Takes whole texts: nothing here writes a part of a character.
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
    fn a_terminal_gets_no_control_characters() {
        let text = "\u{1b}]0;title\u{7}ünï\r\n\tcode \u{9b}2J\n";
        for (is_terminal, written) in [(true, "?]0;title?ünï?\n\tcode ?2J\n"), (false, text)] {
            let mut screened = Screened { to: Vec::new(), is_terminal };
            write!(screened, "{text}").unwrap();
            assert_eq!(String::from_utf8(screened.to).unwrap(), written);
        }
    }
}
