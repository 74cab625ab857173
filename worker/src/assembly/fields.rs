//! The fields of a growing object.

use causeway_queue::json::RawObject;
use indexmap::IndexMap;

use super::node::{MAX_DEPTH, Node, Rule, TooMany, is_empty};

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
