//! Which of the lanes that were read again hold while the process runs: those that it serves, with the
//! bounds that were read. What else was changed of them waits for the next start, and is told.

use std::fmt;

use causeway_queue::LaneName;

use crate::config::Lane;

/// What was changed and is not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    New(LaneName),
    Gone(LaneName),
    /// With another number of shards: bounds that suffice for these may leave a shard of now with
    /// nothing.
    Shards(LaneName),
    /// With other models, another upstream or key.
    Rest(LaneName),
    /// The lanes stand in another order, of which the first serves every other model.
    Order,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(lane) => write!(f, "lane {lane} is new and not served yet"),
            Self::Gone(lane) => write!(f, "lane {lane} is gone and still served as it was"),
            Self::Shards(lane) => {
                write!(f, "lane {lane} has another number of shards, and is served as it was")
            }
            Self::Rest(lane) => write!(
                f,
                "of lane {lane} the bounds are taken over, its other models, upstream or key are not"
            ),
            Self::Order => f.write_str("the lanes are served in the order that they had"),
        }
    }
}

/// `running` with the bounds of `read`, and what of `read` waits. Where no lane is configured, there
/// is one named `default`.
pub(super) fn merge(running: &[Lane], read: &[Lane]) -> (Vec<Lane>, Vec<Waiting>) {
    let (running, read) = (all(running), all(read));
    let mut waiting = Vec::new();
    let mut merged = Vec::with_capacity(running.len());
    for lane in &running {
        merged.push(match named(&read, &lane.name) {
            None => {
                waiting.push(Waiting::Gone(lane.name.clone()));
                lane.clone()
            }
            Some(new) if new.shards != lane.shards => {
                waiting.push(Waiting::Shards(lane.name.clone()));
                lane.clone()
            }
            Some(new) => {
                if new.without_limits() != lane.without_limits() {
                    waiting.push(Waiting::Rest(lane.name.clone()));
                }
                lane.with_limits_of(new)
            }
        });
    }
    let is_new = |lane: &&Lane| named(&running, &lane.name).is_none();
    waiting.extend(read.iter().filter(is_new).map(|lane| Waiting::New(lane.name.clone())));
    if !shared(&running, &read).eq(shared(&read, &running)) {
        waiting.push(Waiting::Order);
    }
    (merged, waiting)
}

fn all(lanes: &[Lane]) -> Vec<Lane> {
    if lanes.is_empty() { vec![Lane::named(LaneName::default_lane())] } else { lanes.to_vec() }
}

fn named<'a>(lanes: &'a [Lane], name: &LaneName) -> Option<&'a Lane> {
    lanes.iter().find(|lane| lane.name == *name)
}

/// The names of those lanes of `one` that are among `others` too.
fn shared<'a>(one: &'a [Lane], others: &'a [Lane]) -> impl Iterator<Item = &'a LaneName> {
    one.iter().map(|lane| &lane.name).filter(|name| named(others, name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::named(LaneName::new(name).unwrap())
    }

    fn bounded(name: &str, max_running: u32) -> Lane {
        Lane { max_running: Some(max_running), ..lane(name) }
    }

    #[test]
    fn lanes_that_run_take_their_bounds_over_whatever_else_changes() {
        let running = [bounded("a", 1), bounded("b", 2), bounded("c", 3), bounded("d", 4)];
        let read = [
            lane("new"),
            bounded("b", 20),
            bounded("a", 10),
            Lane { shards: 2, ..bounded("c", 30) },
            Lane { models: vec!["m".to_owned()], ..bounded("d", 40) },
        ];
        let (merged, waiting) = merge(&running, &read);
        assert_eq!(merged, [bounded("a", 10), bounded("b", 20), bounded("c", 3), bounded("d", 40)]);
        let name = |name: &str| LaneName::new(name).unwrap();
        let wanted = [
            Waiting::Shards(name("c")),
            Waiting::Rest(name("d")),
            Waiting::New(name("new")),
            Waiting::Order,
        ];
        assert_eq!(waiting, wanted);
        let (merged, waiting) = merge(&running, &[bounded("a", 1), bounded("c", 3), lane("d")]);
        assert_eq!(merged[1], bounded("b", 2));
        assert_eq!(merged[3], lane("d"));
        assert_eq!(waiting, [Waiting::Gone(name("b"))]);
    }

    #[test]
    fn the_lane_that_nobody_named_takes_bounds_over_too() {
        let named = [bounded("default", 5)];
        assert_eq!(merge(&[], &named), (named.to_vec(), Vec::new()));
        assert_eq!(merge(&named, &[]), (vec![lane("default")], Vec::new()));
    }
}
