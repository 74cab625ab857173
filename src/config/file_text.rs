//! The text of the configuration file, and the lines of its keys.

use std::path::Path;

use figment::{
    providers::{Format, Toml},
    value::Dict,
};

use super::error::ConfigError;

/// The text of a configuration file.
pub(super) struct FileText {
    /// The path of the file, as the user wrote it.
    pub(super) location: String,
    text: String,
}

impl FileText {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let location = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { location, text }),
            Err(error) => {
                Err(ConfigError(format!("cannot read the configuration {location}: {error}")))
            }
        }
    }

    /// Parses the values of the file.
    ///
    /// # Errors
    /// If the text is not TOML. The message does not quote the line, which may hold a secret.
    pub(super) fn values(&self) -> Result<Dict, ConfigError> {
        Toml::from_str(&self.text).map_err(|error: <Toml as Format>::Error| {
            let why = error.message().trim_end().replace('\n', ", ");
            let before = error.span().and_then(|span| self.text.get(..span.start));
            let position = before.map(|before| {
                // The parser reports a byte offset; users need a line and a column.
                let line = before.split('\n').count();
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!(", line {line}, column {column}")
            });
            ConfigError(format!(
                "{} is not TOML{}: {why}",
                self.location,
                position.unwrap_or_default()
            ))
        })
    }

    /// Returns the path of the file, with the line of `key` if it is found.
    pub(super) fn location_of(&self, key: &str) -> String {
        let line = self.line_of(key).map_or(String::new(), |line| format!(", line {line}"));
        format!("{}{line}", self.location)
    }

    /// Returns the line, from 1, that sets `key` or starts its table. The key is dotted, and the
    /// tables of a list are numbered: `lane.0.models`. Keys in inline tables are not found.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut table = String::new();
        let mut headers: Vec<&str> = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            let line = line.trim();
            let found = if let Some(header) = line.strip_prefix('[') {
                let name = header.split(']').next().unwrap_or_default().trim_matches(['[', ' ']);
                let number = headers.iter().filter(|other| **other == name).count();
                headers.push(name);
                let numbered = format!("{name}.{number}");
                let is_key = name == key || numbered == key;
                let name = if header.starts_with('[') { &numbered } else { name };
                table = format!("{name}.");
                is_key
            } else {
                let name = line.split_once('=').map(|(name, _)| name.trim());
                name.is_some_and(|name| format!("{table}{name}") == key)
            };
            if found {
                return Some(index + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_table() {
        let text = "a = 1\n[b] # x\n c=2\n[[lane]]\nc = 3\n[[lane]]\nd.e = 4\n";
        let file = FileText { location: "f".to_owned(), text: text.to_owned() };
        for (key, location) in [
            ("a", "f, line 1"),
            ("b", "f, line 2"),
            ("b.c", "f, line 3"),
            ("lane", "f, line 4"),
            ("lane.0.c", "f, line 5"),
            ("lane.1", "f, line 6"),
            ("lane.1.d.e", "f, line 7"),
            ("lane.1.c", "f"),
            ("c", "f"),
        ] {
            assert_eq!(file.location_of(key), location, "{key}");
        }
    }
}
