//! Parsing of the reply of `lua/lib/gates.lua`.

use super::reply::{Reply, json};
use causeway_queue::{
    clock::Millis,
    error::Error,
    waiting::{Down, Gate, LaneGate},
};

/// Parses the facts that may block the jobs of a lane or of a tenant.
pub(super) fn gate(reply: &mut Reply) -> Result<Gate, Error> {
    Ok(Gate {
        is_paused: reply.int()? == 1,
        is_at_cap: reply.int()? == 1,
        rate_until: reply.count()?.map(Millis),
    })
}

/// Parses the facts that may block all jobs of a lane.
pub(super) fn lane_gate(mut reply: Reply) -> Result<LaneGate, Error> {
    let gate = gate(&mut reply)?;
    let refused_until = reply.count()?.map(Millis);
    Ok(LaneGate { gate, refused_until, down: down(&mut reply)? })
}

/// Parses the outage of the lane's upstream.
fn down(reply: &mut Reply) -> Result<Option<Down>, Error> {
    let (since, probe_at, error) = (reply.count()?, reply.count()?, reply.bytes()?);
    let error = if error.is_empty() { None } else { Some(json(&error)?) };
    let probe_at = Millis(probe_at.unwrap_or(0));
    Ok(since.map(|since| Down { since: Millis(since), probe_at, error }))
}
