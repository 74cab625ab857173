//! The loops of a worker. Each repeats one step, which tests call.

pub(crate) mod consumer;
pub(crate) mod heartbeat;
pub(crate) mod loop_health;
pub(crate) mod presence;
pub(crate) mod reaper;
