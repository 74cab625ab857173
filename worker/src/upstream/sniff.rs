//! Detection of the kind of a body by its first bytes: servers send JSON, streams and web pages under wrong types.

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An empty body, or only blanks.
    Empty,
    Json,
    Events,
    /// HTML or another markup.
    Page,
    Text,
}

/// The beginnings of the lines of an event stream.
const FIELDS: [&[u8]; 5] = [b":", b"data", b"event", b"id", b"retry"];

/// Detects the kind of a body that begins with `start` (without a byte order mark). Returns `None` if more bytes are
/// needed, which is never the case if `is_all`. `is_events`: the content type is that of an event stream.
pub(super) fn sniff(start: &[u8], is_events: bool, is_all: bool) -> Option<Kind> {
    let start = start.trim_ascii_start();
    let Some(first) = start.first() else { return is_all.then_some(Kind::Empty) };
    let is_field = |field: &&[u8]| start.starts_with(field);
    let may_be_field = |field: &&[u8]| !is_all && field.starts_with(start);
    Some(match first {
        // A server whose stream fails at its start sends one JSON body under the type of a stream.
        b'{' | b'[' => Kind::Json,
        b'<' => Kind::Page,
        _ if is_events || FIELDS.iter().any(is_field) => Kind::Events,
        _ if FIELDS.iter().any(may_be_field) => return None,
        b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Kind::Json,
        _ => Kind::Text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_show_the_kind() {
        let rows: [(&str, bool, Option<Kind>); 14] = [
            ("{}", false, Some(Kind::Json)),
            (" \n\u{feff}", false, Some(Kind::Text)),
            (" \n[1]", true, Some(Kind::Json)),
            ("7", false, Some(Kind::Json)),
            ("<!DOCTYPE html>", true, Some(Kind::Page)),
            ("data: {}", false, Some(Kind::Events)),
            (": ping", false, Some(Kind::Events)),
            ("event:x", false, Some(Kind::Events)),
            ("error: {}", true, Some(Kind::Events)),
            ("error: {}", false, Some(Kind::Text)),
            ("dat", false, None),
            ("r", false, None),
            ("", false, None),
            ("\r\n", true, None),
        ];
        for (start, is_events, wanted) in rows {
            assert_eq!(sniff(start.as_bytes(), is_events, false), wanted, "{start:?}");
        }
        for (start, wanted) in [("\n", Kind::Empty), ("dat", Kind::Text), ("t", Kind::Json)] {
            assert_eq!(sniff(start.as_bytes(), false, true), Some(wanted), "{start:?}");
        }
    }
}
