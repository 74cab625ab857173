//! The headers that a job sends upstream: by name, each with one value or several.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Header lines by name, in lower case. Lines of one name stay in their order.
pub type Headers = BTreeMap<String, HeaderValues>;

/// The values of all header lines of one name. As JSON, one value is a string and several are a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct HeaderValues(Vec<String>);

/// The two JSON forms of header values.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Many(Vec<String>),
}

impl From<Written> for HeaderValues {
    fn from(written: Written) -> Self {
        match written {
            Written::One(value) => Self(vec![value]),
            Written::Many(values) => Self(values),
        }
    }
}

impl From<HeaderValues> for Written {
    fn from(HeaderValues(mut values): HeaderValues) -> Self {
        // A single value is written as a string, which most records have and which is shorter.
        match values.pop() {
            Some(value) if values.is_empty() => Self::One(value),
            last => {
                values.extend(last);
                Self::Many(values)
            }
        }
    }
}

impl From<String> for HeaderValues {
    fn from(value: String) -> Self {
        Self(vec![value])
    }
}

impl FromIterator<String> for HeaderValues {
    fn from_iter<T: IntoIterator<Item = String>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

impl HeaderValues {
    /// Returns the values in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns the value of the first line.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_written_as_text() {
        for (values, written) in [
            (vec!["a"], r#""a""#),
            (vec!["a", "b"], r#"["a","b"]"#),
            (vec!["b", "a", "b"], r#"["b","a","b"]"#),
            (vec![], "[]"),
        ] {
            let values: HeaderValues = values.into_iter().map(str::to_owned).collect();
            assert_eq!(serde_json::to_string(&values).unwrap(), written);
            assert_eq!(serde_json::from_str::<HeaderValues>(written).unwrap(), values);
        }
    }
}
