//! The names of the settings: dotted keys, their environment variables, and hints for unknown
//! names.
//!
//! The keys are those of the default configuration; there is no separate list.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

/// The prefix of all variables.
pub(crate) const PREFIX: &str = "CAUSEWAY_";

/// All keys with their default values; the type of a default selects the parser of a variable's text.
#[derive(Debug)]
pub(crate) struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// Collects the keys of `defaults`.
    pub(crate) fn of(defaults: &Dict) -> Self {
        let mut keys = BTreeMap::new();
        collect("", defaults, &mut keys);
        Self(keys)
    }

    /// Returns all keys, dotted, in alphabetical order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the key that the variable `name` sets.
    pub(crate) fn of_variable(&self, name: &str) -> Option<(&str, &Value)> {
        let found = self.0.iter().find(|(key, _)| variable(key) == name);
        found.map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the first unknown key in `values`.
    pub(crate) fn first_unknown(&self, values: &Dict) -> Option<String> {
        let mut given = BTreeMap::new();
        collect("", values, &mut given);
        given.into_keys().find(|key| !self.0.contains_key(key))
    }

    /// Returns the first key for which `values` has one table instead of a list of tables.
    pub(crate) fn first_single(&self, values: &Dict) -> Option<&str> {
        let mut lists = self.0.keys().filter(|key| self.is_table(key));
        let single = lists.find(|key| values.get(*key).is_some_and(is_one_table));
        single.map(String::as_str)
    }

    /// Returns true if `key` is a list of tables, which only a file can set.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        !key.contains('.') && matches!(self.0.get(key), Some(Value::Array(..)))
    }

    /// Returns true if `key` is known.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the known key that most resembles `wrong`, if any does: the same name in another
    /// table, or similar letters.
    pub(crate) fn closest(&self, wrong: &str) -> Option<&str> {
        let names = || self.0.keys().map(String::as_str);
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        names().find(|key| last(key) == last(wrong)).or_else(|| closest(wrong, names()))
    }

    /// Returns the keys of the section of `wrong`, as a hint; those of the top level if the section
    /// is unknown.
    pub(crate) fn beside(&self, wrong: &str) -> Vec<&str> {
        let section = |key: &str| key.rsplit_once('.').map(|(section, _)| section.to_owned());
        let wanted = section(wrong);
        let of = |wanted: &Option<String>| -> Vec<&str> {
            self.0.keys().map(String::as_str).filter(|key| section(key) == *wanted).collect()
        };
        let keys = of(&wanted);
        if keys.is_empty() { of(&None) } else { keys }
    }
}

/// Returns the environment variable of a dotted key: `bridge.wait` is `CAUSEWAY_BRIDGE_WAIT`.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Nests `value` under a dotted key.
pub(crate) fn nest(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((section, rest)) => Dict::from([(section.to_owned(), nest(rest, value).into())]),
        None => Dict::from([(key.to_owned(), value)]),
    }
}

fn collect(prefix: &str, values: &Dict, into: &mut BTreeMap<String, Value>) {
    for (name, value) in values {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        // The tables inside of a list are no settings of their own.
        match value.as_dict() {
            Some(section) => collect(&key, section, into),
            None => drop(into.insert(key, value.clone())),
        }
    }
}

fn is_one_table(value: &Value) -> bool {
    value.as_dict().is_some()
}

/// Returns the name that most resembles `wrong`, if any does.
pub(super) fn closest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (best, edits) = names.map(|name| (name, distance(name, wrong))).min_by_key(|(_, n)| *n)?;
    // One edit, and one more for every four bytes of the name.
    (edits <= 1 + wrong.len() / 4).then_some(best)
}

/// Computes the Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("lease", "lease"), 0);
        assert_eq!(distance("lease", "lese"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("drain", "brian"), 3);
    }
}
