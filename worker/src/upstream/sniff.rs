//! Detection of the kind of a body by its first bytes: servers send JSON, streams and web pages under wrong types.

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
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
pub(super) fn sniff(start: &[u8], is_events: bool, is_all: bool) -> Option<BodyKind> {
    let start = start.trim_ascii_start();
    let Some(first) = start.first() else { return is_all.then_some(BodyKind::Empty) };
    let is_field = |field: &&[u8]| start.starts_with(field);
    let may_be_field = |field: &&[u8]| !is_all && field.starts_with(start);
    Some(match first {
        // If a stream fails at its start, servers send one JSON body under the type of a stream.
        b'{' | b'[' => BodyKind::Json,
        b'<' => BodyKind::Page,
        _ if is_events || FIELDS.iter().any(is_field) => BodyKind::Events,
        _ if FIELDS.iter().any(may_be_field) => return None,
        b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => BodyKind::Json,
        _ => BodyKind::Text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_show_the_kind() {
        let rows: [(&str, bool, Option<BodyKind>); 14] = [
            ("{}", false, Some(BodyKind::Json)),
            (" \n\u{feff}", false, Some(BodyKind::Text)),
            (" \n[1]", true, Some(BodyKind::Json)),
            ("7", false, Some(BodyKind::Json)),
            ("<!DOCTYPE html>", true, Some(BodyKind::Page)),
            ("data: {}", false, Some(BodyKind::Events)),
            (": ping", false, Some(BodyKind::Events)),
            ("event:x", false, Some(BodyKind::Events)),
            ("error: {}", true, Some(BodyKind::Events)),
            ("error: {}", false, Some(BodyKind::Text)),
            ("dat", false, None),
            ("r", false, None),
            ("", false, None),
            ("\r\n", true, None),
        ];
        for (start, is_events, wanted) in rows {
            assert_eq!(sniff(start.as_bytes(), is_events, false), wanted, "{start:?}");
        }
        for (start, wanted) in
            [("\n", BodyKind::Empty), ("dat", BodyKind::Text), ("t", BodyKind::Json)]
        {
            assert_eq!(sniff(start.as_bytes(), false, true), Some(wanted), "{start:?}");
        }
    }
}
