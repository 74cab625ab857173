//! Reads the beginning of a JSON text: what was cut off is closed.

use serde_json::Value;

/// Parses `text`, or else its longest beginning that can be closed to a JSON object or list.
pub(super) fn parse(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let whole = serde_json::from_str(text).ok();
    let closed = || closed(text).into_iter().flatten();
    whole.or_else(|| closed().find_map(|text| serde_json::from_str(&text).ok()))
}

/// The text closed at its end, and closed behind its last complete field; `None` where it is nested more than
/// [`MAX_OPEN`] deep.
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
    // An escape that is cut, such as `\u00`, would spoil the string.
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

/// Objects and lists in one another. JSON that is deeper is not parsed, and `open` is copied at each comma.
const MAX_OPEN: usize = 128;

/// Bytes of the longest escape, `\uXXXX`.
const MAX_ESCAPE: usize = 6;
