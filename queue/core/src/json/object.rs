//! JSON parsed one level at a time. The values stay as they are written, so no digit of a number and no half of a
//! surrogate pair is lost.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::surrogates::repair_surrogates;

/// The fields of a JSON object, in order. Names and values stay as they are written.
#[derive(Debug, Clone, Default)]
pub struct RawObject<'a>(Vec<(&'a str, &'a str)>);

impl<'a> RawObject<'a> {
    /// Parses the fields of `json`.
    ///
    /// # Errors
    /// If `json` is not one JSON object; the category of the error is `Data` for another JSON value.
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Returns the value of the field `name` as it is written; the last one, if there are several.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| *value)
    }

    /// Returns the text of the field `name`, if it is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        text(self.get(name)?)
    }

    /// Returns the fields of the object `name`, if it is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?).ok()
    }

    /// Returns the fields: name and value, both as they are written, the name without its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> de::Visitor<'de> for FieldsVisitor {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                // `RawValue` borrows the name with its escapes, so that a rewritten object is equal to the byte.
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    let name = name.get().strip_prefix('"').and_then(|name| name.strip_suffix('"'));
                    fields.push((name.unwrap_or_default(), value.get()));
                }
                Ok(RawObject(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Returns the items of a JSON list as they are written; `None` if `json` is not a list.
#[must_use]
pub fn items(json: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

/// Returns the text of the JSON string `json`, with U+FFFD for lone surrogates; `None` if it is not a string.
#[must_use]
pub fn text(json: &str) -> Option<String> {
    serde_json::from_str(&repair_surrogates(json)).ok()
}

/// Returns the value at `path` below `json` as it is written. A path has names of fields and indexes of items, such
/// as `0`.
#[must_use]
pub fn at<'a>(json: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(json, |json, step| match json.as_bytes().first()? {
        b'[' => items(json)?.get(step.parse::<usize>().ok()?).copied(),
        _ => RawObject::parse(json).ok()?.get(step),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_are_written() {
        let json = r#"{ "n": 1e400, "t" : "\ud83d", "n": 0.10 , "o":{"l":[ 1, {"x":null} ]}}"#;
        let object = RawObject::parse(json).unwrap();
        assert_eq!((object.get("n"), object.get("t")), (Some("0.10"), Some(r#""\ud83d""#)));
        assert_eq!(object.text("t").as_deref(), Some("\u{fffd}"));
        assert_eq!(object.object("o").unwrap().get("l"), Some(r#"[ 1, {"x":null} ]"#));
        assert_eq!(at(json, &["o", "l", "1", "x"]), Some("null"));
        assert_eq!(at(json, &["o", "l", "2"]), None);
    }

    #[test]
    fn other_values_are_not_objects() {
        assert!(RawObject::parse("[1]").unwrap_err().is_data());
        assert!(!RawObject::parse("{oops").unwrap_err().is_data());
        assert_eq!((items("{}"), text("1")), (None, None));
    }
}
