//! Merges reloaded lanes into the running ones: a running lane gets its new limits. Other changes
//! wait for the next start and are logged.

use std::fmt;

use causeway_queue::LaneName;

use crate::config::ConfiguredLane;

/// A change that needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PendingChange {
    New(LaneName),
    Gone(LaneName),
    /// Another number of shards: limits that suffice for the new shards may leave one of the
    /// current shards with nothing.
    Shards(LaneName),
    /// Other models, another upstream or another key.
    Rest(LaneName),
    /// Another order of the lanes; the first lane serves every model that no lane names.
    Order,
}

impl fmt::Display for PendingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(lane) => write!(f, "lane {lane} is new and not served yet"),
            Self::Gone(lane) => write!(f, "lane {lane} is gone and still served as it was"),
            Self::Shards(lane) => {
                write!(f, "lane {lane} has another number of shards, and is served as it was")
            }
            Self::Rest(lane) => write!(
                f,
                "the limits of lane {lane} are applied, its other models, upstream or key are not"
            ),
            Self::Order => f.write_str("the lanes are served in the order that they had"),
        }
    }
}

/// Returns `running` with the limits of `read`, and the changes that need a restart. If no lane is
/// configured, there is one named `default`.
pub(super) fn merge(
    running: &[ConfiguredLane],
    read: &[ConfiguredLane],
) -> (Vec<ConfiguredLane>, Vec<PendingChange>) {
    let (running, read) = (all(running), all(read));
    let mut waiting = Vec::new();
    let mut merged = Vec::with_capacity(running.len());
    for lane in &running {
        merged.push(match named(&read, &lane.name) {
            None => {
                waiting.push(PendingChange::Gone(lane.name.clone()));
                lane.clone()
            }
            Some(new) if new.shards != lane.shards => {
                waiting.push(PendingChange::Shards(lane.name.clone()));
                lane.clone()
            }
            Some(new) => {
                if new.without_limits() != lane.without_limits() {
                    waiting.push(PendingChange::Rest(lane.name.clone()));
                }
                lane.with_limits_of(new)
            }
        });
    }
    let is_new = |lane: &&ConfiguredLane| named(&running, &lane.name).is_none();
    waiting.extend(read.iter().filter(is_new).map(|lane| PendingChange::New(lane.name.clone())));
    if !shared(&running, &read).eq(shared(&read, &running)) {
        waiting.push(PendingChange::Order);
    }
    (merged, waiting)
}

fn all(lanes: &[ConfiguredLane]) -> Vec<ConfiguredLane> {
    if lanes.is_empty() {
        vec![ConfiguredLane::named(LaneName::default_lane())]
    } else {
        lanes.to_vec()
    }
}

fn named<'a>(lanes: &'a [ConfiguredLane], name: &LaneName) -> Option<&'a ConfiguredLane> {
    lanes.iter().find(|lane| lane.name == *name)
}

/// Returns the names of those lanes of `one` that are also among `others`.
fn shared<'a>(
    one: &'a [ConfiguredLane],
    others: &'a [ConfiguredLane],
) -> impl Iterator<Item = &'a LaneName> {
    one.iter().map(|lane| &lane.name).filter(|name| named(others, name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> ConfiguredLane {
        ConfiguredLane::named(LaneName::new(name).unwrap())
    }

    fn bounded(name: &str, max_running: u32) -> ConfiguredLane {
        ConfiguredLane { max_running: Some(max_running), ..lane(name) }
    }

    #[test]
    fn running_lanes_take_new_limits() {
        let running = [bounded("a", 1), bounded("b", 2), bounded("c", 3), bounded("d", 4)];
        let read = [
            lane("new"),
            bounded("b", 20),
            bounded("a", 10),
            ConfiguredLane { shards: 2, ..bounded("c", 30) },
            ConfiguredLane { models: vec!["m".to_owned()], ..bounded("d", 40) },
        ];
        let (merged, waiting) = merge(&running, &read);
        assert_eq!(merged, [bounded("a", 10), bounded("b", 20), bounded("c", 3), bounded("d", 40)]);
        let name = |name: &str| LaneName::new(name).unwrap();
        let wanted = [
            PendingChange::Shards(name("c")),
            PendingChange::Rest(name("d")),
            PendingChange::New(name("new")),
            PendingChange::Order,
        ];
        assert_eq!(waiting, wanted);
        let (merged, waiting) = merge(&running, &[bounded("a", 1), bounded("c", 3), lane("d")]);
        assert_eq!(merged[1], bounded("b", 2));
        assert_eq!(merged[3], lane("d"));
        assert_eq!(waiting, [PendingChange::Gone(name("b"))]);
    }

    #[test]
    fn the_implicit_lane_takes_limits() {
        let named = [bounded("default", 5)];
        assert_eq!(merge(&[], &named), (named.to_vec(), Vec::new()));
        assert_eq!(merge(&named, &[]), (vec![lane("default")], Vec::new()));
    }
}
