//! The HTTP API of the queue.
//!
//! [`router`](router()) is the table of routes. All other files hold a group of handlers or code that they share.
//! Handlers parse the request, call the [`Queue`](causeway_queue::Queue) and render the answer. This crate stores
//! no state of jobs, and does not depend on the worker.

mod access;
mod audit;
mod auth;
mod body;
mod bridge;
mod budget;
mod caller;
mod cause;
mod deliveries;
mod direct;
mod docs;
mod error;
mod event_reader;
mod events;
mod extract;
mod forward;
mod gateway;
mod gauges;
mod headers;
mod health;
mod job_view;
mod jobs;
mod lanes;
mod listing;
mod members;
mod model_cache;
mod models;
mod moment;
mod openapi;
mod origin;
mod outage;
mod rejections;
mod request_id;
mod root;
mod router;
mod serve;
mod settings;
mod similar;
mod simulated;
mod state;
mod submit;
mod tenants;
#[cfg(test)]
mod tests;
mod waiting_view;
mod webhook;
mod workers;
mod ws;

pub use caller::{Tenant, Tenants, Webhooks};
pub use direct::{DirectAnswer, DirectCall, DirectFailure, DirectResult, DirectSource};
pub use forward::{FORWARDED, InvalidPattern, check_forwarded};
pub use gauges::describe_metrics;
pub use model_cache::{Model, ModelsSource};
pub use router::router;
pub use serve::serve;
pub use settings::{BridgeSettings, Settings, WebhookSettings};
pub use state::AppState;
pub use tenants::{Key, TenantRegistry, has_tenants, new_key};
pub use webhook::{InvalidWebhookUrl, check_url as check_webhook_url};
