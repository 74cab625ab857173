//! Webhook events: from the end of a job through the outbox to the receiver.
//!
//! `outbox_relay` turns each entry of the outbox into an `event` and submits its delivery, a job of the lane
//! `webhooks`. `deliverer` is the upstream of that lane; `delivery` classifies its failures, and `schedule` has the
//! delays between attempts.

pub(crate) mod deliverer;
pub(crate) mod delivery;
pub(crate) mod event;
pub(crate) mod outbox_relay;
mod receivers;
pub(crate) mod schedule;
pub(crate) mod secret;
