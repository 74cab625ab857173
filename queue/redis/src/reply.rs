//! Parsing of the replies of scripts.

use redis::Value;

use causeway_queue::error::Error;

/// The reply of a script, read from front to back.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

fn unexpected(wanted: &str, found: &Value) -> Error {
    let found = match found {
        Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
        other => format!("{other:?}"),
    };
    Error::Corrupt(format!("a script returned {found} where {wanted} was expected"))
}

impl Reply {
    /// Returns the reader of an array.
    pub(super) fn new(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(unexpected("an array", &other)),
        }
    }

    /// Returns the number of remaining values.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn value(&mut self) -> Value {
        // A missing value reads as nil, which the typed readers refuse.
        self.0.next().unwrap_or_default()
    }

    /// Returns the next value as bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        bytes(self.value())
    }

    /// Returns the next value as text.
    pub(super) fn text(&mut self) -> Result<String, Error> {
        text(self.bytes()?)
    }

    /// Returns the next value as a whole number.
    pub(super) fn int(&mut self) -> Result<i64, Error> {
        match self.value() {
            Value::Int(number) => Ok(number),
            other => Err(unexpected("a number", &other)),
        }
    }

    /// Returns the next value as a count; `None` if it is negative.
    pub(super) fn count(&mut self) -> Result<Option<u64>, Error> {
        Ok(u64::try_from(self.int()?).ok())
    }

    /// Returns the next value as a decimal number in text form.
    pub(super) fn float(&mut self) -> Result<f64, Error> {
        let text = self.text()?;
        text.parse().map_err(|_| Error::Corrupt(format!("{text:?} is not a number")))
    }

    /// Returns the next value as an array.
    pub(super) fn array(&mut self) -> Result<Self, Error> {
        Self::new(self.value())
    }

    /// Returns the next value as an array; `None` if it is nil.
    pub(super) fn maybe_array(&mut self) -> Result<Option<Self>, Error> {
        match self.value() {
            Value::Nil => Ok(None),
            value => Self::new(value).map(Some),
        }
    }
}

/// Returns `value` as bytes.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        other => Err(unexpected("a string", &other)),
    }
}

/// Returns `bytes` as text.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::Corrupt("a text that is not UTF-8".to_owned()))
}

/// Parses JSON of a record.
pub(super) fn json<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Corrupt(error.to_string()))
}
