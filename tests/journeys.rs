//! Journeys through the real binary: the promises of the documentation, from outside.

mod bench;
mod bridge;
mod cancel;
mod crash;
mod drain;
mod happened;
mod lanes;
mod main_job;
mod outage;
mod passing;
mod patience;
mod reach;
mod receivers;
mod responses;
mod retry;
mod sdk_retries;
mod simulated;
mod start;
mod store_access;
mod stream;
pub(crate) mod tenants;
mod tenants_at_run_time;
mod waits;
mod webhook;
mod workers;
mod ws;
