//! The shards of a lane, and the assignment of tenants to them.

use std::{fmt, str::FromStr};

use super::name::{InvalidName, LaneName, QUOTED_CHARS, TenantId};

/// One shard of a lane: the unit within which order and limits are exact. Shown as `lane:index`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// The lane.
    pub lane: LaneName,
    /// The index among the lane's shards, from 0.
    pub index: u16,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lane, self.index)
    }
}

impl FromStr for Shard {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (lane, index) = text.split_once(':').unwrap_or((text, ""));
        let text = text.chars().take(QUOTED_CHARS).collect();
        let wrong = InvalidName { kind: "shard", rule: "a lane, ':' and a number", text };
        Ok(Self { lane: lane.parse()?, index: index.parse().map_err(|_| wrong)? })
    }
}

impl Shard {
    /// Returns the shard of `tenant` among `shards` (at least 1) of a lane by highest random weight ("rendezvous")
    /// hashing (Thaler and Ravishankar 1998), so that a new number of shards moves as few tenants as possible.
    #[must_use]
    pub fn of(lane: &LaneName, shards: u16, tenant: &TenantId) -> Self {
        let weight = |index: &u16| {
            // FNV-1a: stable over processes and versions, because stored jobs depend on the assignment.
            let text = format!("{tenant}\0{index}");
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        // A single shard needs no hash.
        let index = if shards > 1 {
            (0..shards).max_by_key(|index| mix(weight(index))).unwrap_or(0)
        } else {
            0
        };
        Self { lane: lane.clone(), index }
    }
}

/// The number of shards of a lane. Shown as `lane:shards`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Layout {
    /// The lane.
    pub lane: LaneName,
    /// The number of shards, from 1.
    pub shards: u16,
}

impl Layout {
    /// Returns all shards of the lane.
    pub fn all(&self) -> impl Iterator<Item = Shard> + use<> {
        let lane = self.lane.clone();
        (0..self.shards).map(move |index| Shard { lane: lane.clone(), index })
    }

    /// Returns the shard of a tenant; see [`Shard::of`].
    #[must_use]
    pub fn home_shard(&self, tenant: &TenantId) -> Shard {
        Shard::of(&self.lane, self.shards, tenant)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lane, self.shards)
    }
}

impl FromStr for Layout {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let Shard { lane, index: shards } = text.parse()?;
        Ok(Self { lane, shards })
    }
}

/// Applies the finaliser of `SplitMix64` (Steele, Lea and Flood 2014). FNV alone leaves the influence of the last
/// byte in the low bits, so the last shard would win too often.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendezvous_spreads_tenants_and_moves_few() {
        let lane = LaneName::default_lane();
        let tenants: Vec<TenantId> =
            (0..4000).map(|n| TenantId::new(&format!("t{n}")).unwrap()).collect();
        let mut counts = [0_u32; 4];
        let mut moved = 0;
        for tenant in &tenants {
            let four = Shard::of(&lane, 4, tenant).index;
            let five = Shard::of(&lane, 5, tenant).index;
            counts[usize::from(four)] += 1;
            if four != five {
                assert_eq!(five, 4, "a tenant moves only to the new shard");
                moved += 1;
            }
        }
        assert!(counts.iter().all(|n| (850..=1150).contains(n)), "{counts:?}");
        assert!((650..=950).contains(&moved), "{moved}");
    }
}
