//! Names: lanes, shards, tenants, sessions and jobs.
//!
//! A parsed name can be part of a Redis key: it has no braces, a lane has no colon, and no name has the separators of
//! a lease member. A [`JobId`] contains its lane and shard, so a job is found without an index.

mod name;
mod shard;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de, ser};
use uuid::Uuid;

use crate::clock::Millis;

use self::name::QUOTED_CHARS;
pub use self::{
    name::{
        IdempotencyKey, InvalidName, LaneName, MAX_KEY_BYTES, MAX_LANE_BYTES, MAX_TENANT_BYTES,
        SessionKey, TenantId,
    },
    shard::{Layout, Shard},
};

/// The id of a job: `job_<lane>_<shard>_<26 characters>`. The characters are a UUID version 7 (RFC 9562) in
/// Crockford's base 32, so ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    shard: Shard,
    uuid: Uuid,
}

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The length of a job's key. 26 digits of five bits hold the 128 bits of a UUID.
pub const KEY_CHARS: usize = 26;

/// The value of each byte as a digit of [`CROCKFORD`].
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0_u8;
    while (value as usize) < CROCKFORD.len() {
        digits[CROCKFORD[value as usize] as usize] = value;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = u8::MAX;

impl JobId {
    /// Returns a new id in `shard`.
    #[must_use]
    pub fn new(shard: Shard) -> Self {
        Self { shard, uuid: Uuid::now_v7() }
    }

    /// Returns the time at which the id was created, by the clock of the process that created it.
    #[must_use]
    pub fn named_at(&self) -> Millis {
        let [a, b, c, d, e, f, ..] = *self.uuid.as_bytes();
        Millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Returns the id with the key `key` inside `shard`; `None` if `key` is invalid.
    #[must_use]
    pub fn in_shard(shard: Shard, key: &str) -> Option<Self> {
        if key.len() != KEY_CHARS {
            return None;
        }
        let mut value: u128 = 0;
        for byte in key.bytes() {
            let digit = DIGITS[usize::from(byte)];
            // 26 digits hold 130 bits, so a large first digit overflows.
            value = value.checked_mul(32)?.checked_add(u128::from(digit))?;
            if digit == NO_DIGIT {
                return None;
            }
        }
        Some(Self { shard, uuid: Uuid::from_u128(value) })
    }

    /// Returns the shard that holds the job.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Returns the id with this number as its key inside `shard`.
    pub fn numbered(shard: Shard, number: u128) -> Self {
        Self { shard, uuid: Uuid::from_u128(number) }
    }

    /// Returns the key inside the shard as a number.
    pub fn number(&self) -> u128 {
        self.uuid.as_u128()
    }

    /// Returns the key inside the shard: 26 characters.
    #[must_use]
    pub fn key(&self) -> String {
        let value = self.uuid.as_u128();
        let digit = |place: usize| {
            let index = (value >> (5 * place)) & 31;
            char::from(CROCKFORD[usize::try_from(index).unwrap_or(0)])
        };
        (0..KEY_CHARS).rev().map(digit).collect()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}_{}_{}", self.shard.lane, self.shard.index, self.key())
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.strip_prefix("job_")?.split('_');
            let lane = LaneName::new(parts.next()?).ok()?;
            let index = parts.next()?.parse().ok()?;
            let id = Self::in_shard(Shard { lane, index }, parts.next()?)?;
            // A number has several spellings, such as `+0`, but a job has only one id.
            (parts.next().is_none() && id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| InvalidName {
            kind: "job id",
            rule: "job_<lane>_<shard>_<26 characters>",
            text: text.chars().take(QUOTED_CHARS).collect(),
        })
    }
}

impl Serialize for JobId {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_read_back_as_written() {
        let shard = Shard { lane: LaneName::new("gpt-4").unwrap(), index: 3 };
        for _ in 0..100 {
            let id = JobId::new(shard.clone());
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        }
    }

    #[test]
    fn a_job_has_one_id() {
        let id = JobId::new(Shard { lane: LaneName::default_lane(), index: 7 });
        for alias in ["_+7_", "_07_"] {
            let text = id.to_string().replacen("_7_", alias, 1);
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }

    #[test]
    fn job_ids_sort_by_time() {
        let shard = Shard { lane: LaneName::default_lane(), index: 0 };
        let keys: Vec<String> = (0..100).map(|_| JobId::new(shard.clone()).key()).collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn an_invalid_name_is_refused() {
        for text in ["", "A", "a_b", "a:b", "{a}", &"a".repeat(33)] {
            assert!(LaneName::new(text).is_err(), "{text}");
        }
        for text in ["", "a|b", "a b", "ü"] {
            assert!(TenantId::new(text).is_err(), "{text}");
        }
        for text in ["", "job_", "job_default_0_", "x", "job_default_0_0123456789abcdefghjkmnpqrI"]
        {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
