//! Upstreams answer calls: OpenAI-compatible servers and the simulation.

pub(crate) mod address;
mod answer;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod client;
mod coding;
mod direct;
pub(crate) mod error_body;
mod mask;
pub(crate) mod memory;
pub(crate) mod offload;
pub(crate) mod openai;
pub(crate) mod proxy;
mod responses;
pub(crate) mod retry_after;
pub(crate) mod secret;
pub(crate) mod shape;
pub mod simulated;
mod sniff;
pub mod sse;
pub(crate) mod target;
pub(crate) mod tls;

pub use self::{
    address::{Address, InvalidAddress},
    call::{Answer, Call, SIMULATED, Sink, StreamEvent, Upstream},
    check::{CheckResult, ListedModel},
    client::{InvalidUpstream, UpstreamClient, UpstreamSettings},
    direct::{ForwardFailure, ForwardedAnswer},
    memory::{AnswerMemory, Share},
    openai::OpenAi,
    proxy::{InvalidProxy, InvalidVariable, Proxy, ProxyVariables},
    responses::WithResponses,
    secret::UpstreamSecret,
    target::CallTarget,
    tls::{InvalidTls, TlsFiles},
};
