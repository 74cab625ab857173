//! JSON that grows. Values are kept as they are written and opened only where something is merged
//! into them.

use causeway_queue::json::{RawObject, items};

use super::{entries::Entries, fields::Fields};
use crate::upstream::Failure;

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

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    /// As it is written.
    Raw(String),
    /// The inside of the quotes of a text.
    Text(String),
    /// The inside of the brackets of a list that only grows at its end.
    List(String),
    /// A list whose entries are known by their `index`.
    Entries(Entries),
    Object(Fields),
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

impl Node {
    /// The value `json`.
    pub(super) fn new(json: &str) -> Self {
        if json.starts_with('[') { Self::list(json) } else { Self::Raw(json.to_owned()) }
    }

    /// The list `json`. Its entries are merged where several of them have one index.
    fn list(json: &str) -> Self {
        let entries = items(json).unwrap_or_default();
        if !entries.iter().any(|item| index_in(item).is_some()) {
            return Self::List(inside(json).to_owned());
        }
        let mut whole = Entries::default();
        match entries.iter().try_for_each(|item| whole.add(item, Rule::Delta, MAX_DEPTH)) {
            Ok(()) => Self::Entries(whole),
            Err(TooMany) => Self::List(inside(json).to_owned()),
        }
    }

    /// Opens a value that is kept as it is written.
    pub(super) fn open(&mut self) -> &mut Self {
        if let Self::Raw(json) = self {
            match json.as_bytes().first() {
                Some(b'"') => *self = Self::Text(raw_text(json).unwrap_or_default().to_owned()),
                Some(b'[') => *self = Self::list(json),
                Some(b'{') => {
                    let object = RawObject::parse(json).unwrap_or_default();
                    *self = Self::Object(Fields::of(&object));
                }
                Some(_) | None => {}
            }
        }
        self
    }

    /// Merges `more`, which came later as the value of `field`.
    pub(super) fn merge(&mut self, field: &str, more: &str, rule: Rule) -> Result<(), TooMany> {
        self.merge_below(field, more, rule, MAX_DEPTH)
    }

    /// Merges values that are at most `depth` deep.
    pub(super) fn merge_below(
        &mut self,
        field: &str,
        more: &str,
        rule: Rule,
        depth: usize,
    ) -> Result<(), TooMany> {
        if more == "null" {
            return Ok(());
        }
        match (self.open(), more.as_bytes().first()) {
            (Self::Text(text), Some(b'"')) => grow(text, field, raw_text(more).unwrap_or(""), rule),
            (Self::Object(fields), Some(b'{')) if depth > 0 => {
                for (name, value) in RawObject::parse(more).unwrap_or_default().iter() {
                    fields.merge_below(name, value, rule, depth - 1)?;
                }
            }
            (Self::Entries(entries), Some(b'[')) if depth > 0 => {
                for item in items(more).unwrap_or_default() {
                    entries.add(item, rule, depth - 1)?;
                }
            }
            (Self::List(list), Some(b'[')) if !list.is_empty() => {
                if !inside(more).is_empty() {
                    list.push(',');
                    list.push_str(inside(more));
                }
            }
            (node, _) => *node = Self::new(more),
        }
        Ok(())
    }

    /// The inside of the text that it is, as it is written.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Raw(json) => raw_text(json),
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Entries(_) | Self::Object(_) => None,
        }
    }

    /// The value of the field `name`, if it is an open object with that field.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(name),
            Self::Raw(_) | Self::Text(_) | Self::List(_) | Self::Entries(_) => None,
        }
    }

    /// Appends the value as JSON.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Raw(json) => out.push_str(json),
            Self::Text(text) => out.extend(["\"", text, "\""]),
            Self::List(list) => out.extend(["[", list, "]"]),
            Self::Entries(entries) => {
                out.push('[');
                entries.write(out);
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                fields.write(out);
                out.push('}');
            }
        }
    }
}

/// Appends `more` to a text, or puts it in its place, as the field wants.
fn grow(text: &mut String, field: &str, more: &str, rule: Rule) {
    let replaces = match (rule, field) {
        (Rule::Beside, _) => true,
        // Said once, or the same again with every part.
        (_, "role" | "id" | "type" | "object" | "format" | "status" | "call_id") => true,
        // Said once, repeated, or in parts.
        (_, "name" | "signature") => more.starts_with(text.as_str()),
        (_, _) => false,
    };
    match replaces {
        true if more.is_empty() => {}
        true => more.clone_into(text),
        false => text.push_str(more),
    }
}
