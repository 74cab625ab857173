//! JSON that passes through unparsed: every byte stays as it was sent.

mod object;
mod surrogates;

use std::fmt;

use serde::{Deserialize, Serialize, de};
use serde_json::{error::Category, value::RawValue};

pub use self::{
    object::{RawObject, at, items, text},
    surrogates::repair_surrogates,
};

/// A JSON value as it was written. `Debug` shows its length only, because prompts and completions are never logged.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// If it is not; the error names the position.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// Returns `value` as JSON.
    ///
    /// # Errors When the value cannot be written as JSON (a map with keys that are not strings).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Returns `text` as a JSON string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::of(text).unwrap_or_default()
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Parses the value as a `T`.
    ///
    /// # Errors
    /// If the value is not a `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }
}

/// Describes why and where a text is not JSON, in plain words: "it ends too early, at line 1, column 9".
#[must_use]
pub fn syntax_error(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Syntax | Category::Data | Category::Io => without_position(&said),
    };
    format!("{said}, at line {}, column {}", error.line(), error.column())
}

/// Returns the message of an error of `serde_json` without the position at its end.
#[must_use]
pub fn without_position(said: &str) -> &str {
    said.rsplit_once(" at line ").map_or(said, |(words, _)| words)
}

impl Default for RawJson {
    /// `null`.
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes of JSON>", self.as_str().len())
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}
