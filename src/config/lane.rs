//! `[[lane]]`: pools of upstreams that are rate limited together.

use std::path::PathBuf;

use causeway_queue::{LaneName, limits::LaneLimits};
use serde::{Deserialize, Serialize};

use super::Secret;

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lane {
    /// Its name: 1 to 32 of a-z, 0-9 and `-`.
    pub(crate) name: LaneName,
    /// The models that are routed to it; the first lane also serves every other model.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// Its upstream. Default: the `upstream` of the top level.
    #[serde(default)]
    pub(crate) upstream: Option<Secret>,
    /// The proxy: a URL, `none`, or `environment` for the one that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
    /// and `NO_PROXY` name. Default: that of the top level.
    #[serde(default)]
    pub(crate) proxy: Option<Secret>,
    /// A PEM file with certificates to trust beside the system's roots. Default: that of the top level.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to present, and its chain. Default: that of the
    /// top level.
    #[serde(default)]
    pub(crate) client_cert_file: Option<PathBuf>,
    /// A PEM file with that certificate's private key. Default: `client_cert_file` holds it too.
    #[serde(default)]
    pub(crate) client_key_file: Option<PathBuf>,
    /// The environment variable that holds this upstream's key. Default: none when the lane has an
    /// `upstream`, else that of the top level.
    #[serde(default)]
    pub(crate) api_key_env: Option<String>,
    /// Into how many parts its keys are spread over a Redis Cluster, 1 to 64. Default 1.
    #[serde(default = "one")]
    pub(crate) shards: u16,
    /// Most jobs that run at once, over the whole fleet. Default: no bound.
    #[serde(default)]
    pub(crate) max_running: Option<u32>,
    /// Most jobs that wait. Default 1,000,000.
    #[serde(default = "million")]
    pub(crate) max_queued: u64,
    /// Most attempts begun per minute. Default: no bound.
    #[serde(default)]
    pub(crate) requests_per_minute: Option<u32>,
    /// Most tokens per minute. Default: no bound.
    #[serde(default)]
    pub(crate) tokens_per_minute: Option<u64>,
    /// What the variable named by `api_key_env` holds.
    #[serde(skip)]
    pub(crate) api_key: Option<Secret>,
}

fn one() -> u16 {
    1
}

fn million() -> u64 {
    LaneLimits::default().max_queued
}

impl Lane {
    /// A lane of which nothing else is configured.
    pub(crate) fn named(name: LaneName) -> Self {
        let (models, upstream, api_key_env, api_key) = Default::default();
        let (max_running, requests_per_minute, tokens_per_minute) = Default::default();
        Self {
            name,
            models,
            upstream,
            proxy: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            api_key_env,
            shards: one(),
            max_running,
            max_queued: million(),
            requests_per_minute,
            tokens_per_minute,
            api_key,
        }
    }

    pub(crate) fn limits(&self) -> LaneLimits {
        LaneLimits {
            max_running: self.max_running,
            max_queued: self.max_queued,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
        }
    }

    /// The same lane with other bounds: what remains needs a restart to change.
    pub(crate) fn without_limits(&self) -> Self {
        self.with_limits_of(&Self::named(self.name.clone()))
    }

    /// The same lane with the bounds of `other`.
    pub(crate) fn with_limits_of(&self, other: &Self) -> Self {
        Self {
            max_running: other.max_running,
            max_queued: other.max_queued,
            requests_per_minute: other.requests_per_minute,
            tokens_per_minute: other.tokens_per_minute,
            ..self.clone()
        }
    }
}
