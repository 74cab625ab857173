//! JSON that grows. Values are kept as they are written and opened only where something is merged
//! into them.

use std::collections::HashMap;

use causeway_queue::json::{RawObject, items};
use indexmap::IndexMap;

use super::raw::{MAX_DEPTH, MAX_ENTRIES, Rule, TooMany, index_in, inside, is_empty, raw_text};

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    /// As it is written.
    Raw(String),
    /// The inside of the quotes of a text.
    Text(String),
    /// The inside of the brackets of a list that only grows at its end.
    List(String),
    /// A list of entries with an `index`.
    Entries(Entries),
    Object(Fields),
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

/// The fields of an object, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Fields(IndexMap<String, Node>);

impl Fields {
    /// Returns the fields of `object`.
    pub(super) fn of(object: &RawObject<'_>) -> Self {
        let fields =
            object.iter().map(|(name, value)| (name.to_owned(), Node::Raw(value.to_owned())));
        Self(fields.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.0.get_mut(name)
    }

    /// Sets the field `name` to `node`.
    pub(super) fn set(&mut self, name: &str, node: Node) {
        self.0.insert(name.to_owned(), node);
    }

    /// Sets the field `name` to `json` if the field is missing, null or empty.
    pub(super) fn set_missing(&mut self, name: &str, json: &str) {
        let is_missing = match self.get(name) {
            Some(Node::Raw(json)) => is_empty(json),
            Some(Node::Text(text)) => text.is_empty(),
            Some(Node::List(_) | Node::Entries(_) | Node::Object(_)) => false,
            None => true,
        };
        if is_missing {
            self.set(name, Node::new(json));
        }
    }

    /// Merges `more` into the field `name`.
    pub(super) fn merge(&mut self, name: &str, more: &str, rule: Rule) -> Result<(), TooMany> {
        self.merge_below(name, more, rule, MAX_DEPTH)
    }

    /// Merges values that are at most `depth` levels deep.
    pub(super) fn merge_below(
        &mut self,
        name: &str,
        more: &str,
        rule: Rule,
        depth: usize,
    ) -> Result<(), TooMany> {
        match self.0.get_mut(name) {
            Some(node) => node.merge_below(name, more, rule, depth),
            None => {
                self.set(name, Node::new(more));
                Ok(())
            }
        }
    }

    /// Returns the JSON-escaped text of the field `name`, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// Appends the fields as JSON, without the enclosing braces.
    pub(super) fn write(&self, out: &mut String) {
        for (position, (name, node)) in self.0.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            out.extend(["\"", name, "\":"]);
            node.write(out);
        }
    }
}

/// The entries of a list, and the positions of those with an index.
#[derive(Debug, Default)]
pub(super) struct Entries {
    items: Vec<Node>,
    positions: HashMap<u64, usize>,
}

impl Entries {
    /// Merges `item` into the entry with the same index, or appends it.
    pub(super) fn add(&mut self, item: &str, rule: Rule, depth: usize) -> Result<(), TooMany> {
        let index = index_in(item);
        let position = index.and_then(|index| self.positions.get(&index).copied());
        if let Some(known) = position.and_then(|position| self.items.get_mut(position)) {
            return known.merge_below("", item, rule, depth);
        }
        self.push(item)?;
        if let Some(index) = index {
            self.positions.insert(index, self.items.len() - 1);
        }
        Ok(())
    }

    /// Appends `item`.
    pub(super) fn push(&mut self, item: &str) -> Result<(), TooMany> {
        if self.items.len() == MAX_ENTRIES {
            return Err(TooMany);
        }
        self.items.push(Node::Raw(item.to_owned()));
        Ok(())
    }

    /// Merges `item` by its index; returns false, without a change, if it has none.
    pub(super) fn add_indexed(&mut self, item: &str) -> Result<bool, TooMany> {
        let is_indexed = index_in(item).is_some();
        if is_indexed {
            self.add(item, Rule::Delta, MAX_DEPTH)?;
        }
        Ok(is_indexed)
    }

    /// Returns the last entry.
    pub(super) fn last_mut(&mut self) -> Option<&mut Node> {
        self.items.last_mut()
    }

    /// Appends the entries as JSON, separated by commas.
    pub(super) fn write(&self, out: &mut String) {
        for (position, item) in self.items.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            item.write(out);
        }
    }
}
