//! Parses JSON that was cut: open strings, lists and objects are closed.

use serde_json::Value;

/// Parses `text`; if that fails, its longest beginning that can be closed to a JSON object or list.
pub(super) fn parse(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let whole = serde_json::from_str(text).ok();
    let closed = || closed(text).into_iter().flatten();
    whole.or_else(|| closed().find_map(|text| serde_json::from_str(&text).ok()))
}

/// Returns the text closed at its end, and closed after its last complete field; `None` if it is nested more than
/// [`MAX_OPEN`] levels deep.
fn closed(text: &str) -> Option<[String; 2]> {
    let mut open = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    let (mut last_comma, mut open_there, mut last_escape) = (0, Vec::new(), None);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => (escaped, last_escape) = (true, Some(at)),
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => open.push('}'),
            b'[' => open.push(']'),
            b'}' | b']' => drop(open.pop()),
            b',' => (last_comma, open_there) = (at, open.clone()),
            _ => {}
        }
        if open.len() > MAX_OPEN {
            return None;
        }
    }
    // A cut escape, such as `\u00`, would make the string invalid.
    let end = match last_escape {
        Some(at) if in_string && text.len() - at < MAX_ESCAPE => at,
        Some(_) | None => text.len(),
    };
    let quote = if in_string { "\"" } else { "" };
    let close = |open: Vec<char>| open.into_iter().rev().collect::<String>();
    let at_end = format!("{}{quote}{}", text.get(..end).unwrap_or_default(), close(open));
    let at_comma = format!("{}{}", text.get(..last_comma).unwrap_or_default(), close(open_there));
    Some([at_end, at_comma])
}

/// Deepest nesting of objects and lists. `serde_json` does not parse deeper JSON, and `open` is copied at each comma.
const MAX_OPEN: usize = 128;

/// Bytes of the longest escape, `\uXXXX`.
const MAX_ESCAPE: usize = 6;
