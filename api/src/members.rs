//! The members of a request that Causeway reads. All others are forwarded unparsed.
//!
//! A name may be repeated (RFC 8259, section 4). The last value counts, as in the JSON parsers of Python, Go and
//! JavaScript, so Causeway and the upstream read the same one. The bytes are forwarded unchanged.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Number, value::RawValue};

use crate::extract::{MAX_COUNT, whole};

/// A set of members of an object, read one at a time.
pub(crate) trait Members: Default {
    /// Reads the value of the member `name`. Returns false, and reads nothing, if the name is not in the set.
    fn take<'de, M: MapAccess<'de>>(
        &mut self,
        name: &str,
        values: &mut M,
    ) -> Result<bool, M::Error>;
}

/// Reads all members of an object into a `T`.
pub(crate) fn read<'de, T: Members, D: Deserializer<'de>>(source: D) -> Result<T, D::Error> {
    source.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Members> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<T, M::Error> {
        let mut members = T::default();
        while let Some(name) = map.next_key::<String>()? {
            if !members.take(&name, &mut map)? {
                // Skipping still checks that the value is valid JSON.
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// Reads a value that the upstream validates; `None` if it is not a `T`.
pub(crate) fn lenient<'de, T: DeserializeOwned, M: MapAccess<'de>>(
    values: &mut M,
) -> Result<Option<T>, M::Error> {
    // Parsing the raw value apart keeps its errors from failing the whole object.
    Ok(serde_json::from_str(values.next_value::<Box<RawValue>>()?.get()).ok())
}

/// Reads a number of tokens for an estimate; `None` for -1, text and all other values, which may mean something to
/// the upstream.
pub(crate) fn estimate<'de, M: MapAccess<'de>>(values: &mut M) -> Result<Option<u64>, M::Error> {
    let number: Option<Number> = lenient(values)?;
    Ok(number.as_ref().and_then(whole).filter(|count| *count <= MAX_COUNT))
}

/// Reads an optional value of a type that Causeway relies on.
pub(crate) fn strict<'de, T: Deserialize<'de>, M: MapAccess<'de>>(
    values: &mut M,
) -> Result<Option<T>, M::Error> {
    values.next_value()
}
