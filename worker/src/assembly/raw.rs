//! JSON as it is written, and the bounds of an assembled answer.

use causeway_queue::json::RawObject;

use crate::failure::Failure;

/// Most choices, tool calls, content parts and entries of a list that are known by an index. More
/// than a thousand times what any model says.
pub(super) const MAX_ENTRIES: usize = 1024;

/// The depth to which values are merged; below it, the later one replaces the former. Four times as
/// deep as any stream of a model.
pub(super) const MAX_DEPTH: usize = 16;

/// More than [`MAX_ENTRIES`].
#[derive(Debug)]
pub(crate) struct TooMany;

impl From<TooMany> for Failure {
    fn from(TooMany: TooMany) -> Self {
        Self::TooMany(MAX_ENTRIES)
    }
}

/// The rule by which values are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Parts of a message: texts grow.
    Delta,
    /// Fields beside it: the later text replaces the former. Lists grow all the same.
    Beside,
}

/// True if `json` says nothing: null, false, zero, or an empty text, list or object.
pub(crate) fn is_empty(json: &str) -> bool {
    match json.as_bytes() {
        [b'{' | b'[', inside @ .., _] => inside.trim_ascii().is_empty(),
        _ => matches!(json, "null" | "false" | "\"\"" | "0"),
    }
}

/// The inside of a text or list as it is written.
pub(super) fn inside(json: &str) -> &str {
    json.get(1..json.len().saturating_sub(1))
        .unwrap_or_default()
        .trim_matches([' ', '\t', '\n', '\r'])
}

/// The inside of a text as it is written; `None` when `json` is something else.
pub(super) fn raw_text(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// The `index` of an entry.
pub(super) fn index_of(entry: &RawObject<'_>) -> Option<u64> {
    entry.get("index")?.parse().ok()
}

/// The `index` of an entry as it is written.
pub(super) fn index_in(item: &str) -> Option<u64> {
    index_of(&RawObject::parse(item).ok()?)
}
