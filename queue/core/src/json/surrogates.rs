//! Lone halves of surrogate pairs in JSON: the grammar allows `"\ud83d"` (RFC 8259, section 8.2), but a Rust string
//! cannot hold it.

use std::borrow::Cow;

/// Replaces every lone surrogate escape in `json` by U+FFFD, as decoders of UTF-16 do.
///
/// `json` must be valid JSON. Nothing else changes; without a lone surrogate, `json` is returned as it is.
#[must_use]
pub fn repair_surrogates(json: &str) -> Cow<'_, str> {
    let mut repaired = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let start = at + found;
        let (length, is_lone) = escape(json.get(start..).unwrap_or_default());
        at = start + length;
        if is_lone {
            repaired.push_str(json.get(kept..start).unwrap_or_default());
            repaired.push_str("\\ufffd");
            kept = at;
        }
    }
    // Still 0 only if nothing was replaced.
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    repaired.push_str(json.get(kept..).unwrap_or_default());
    Cow::Owned(repaired)
}

/// The lengths of `
/// `, of `\u0041` and of a surrogate pair, in bytes.
const SHORT: usize = 2;
const SINGLE: usize = 6;
const PAIR: usize = 12;

/// Returns the length of the escape at the start of `text`, and true if it is a lone surrogate.
fn escape(text: &str) -> (usize, bool) {
    match unit(text) {
        None => (SHORT, false),
        Some(0xD800..=0xDBFF) => match text.get(SINGLE..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => (PAIR, false),
            Some(_) | None => (SINGLE, true),
        },
        Some(0xDC00..=0xDFFF) => (SINGLE, true),
        Some(_) => (SINGLE, false),
    }
}

/// Returns the code unit of a `\uXXXX` at the start of `text`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_halves_become_replacement_characters() {
        for (json, wanted) in [
            (r#""plain""#, r#""plain""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""a\uD83D b""#, r#""a\ufffd b""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \u00e9\n""#, r#""\\ud83d \u00e9\n""#),
            (r#""\ud83d\n""#, r#""\ufffd\n""#),
        ] {
            assert_eq!(repair_surrogates(json), wanted);
            assert!(serde_json::from_str::<String>(&repair_surrogates(json)).is_ok(), "{json}");
        }
    }
}
