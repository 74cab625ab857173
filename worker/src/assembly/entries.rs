//! A growing list of entries that are identified by their `index`.

use std::collections::HashMap;

use super::node::{MAX_DEPTH, MAX_ENTRIES, Node, Rule, TooMany, index_in};

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
