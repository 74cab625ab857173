//! `[[lane]]`: a queue of jobs for upstreams that share their rate limits.

use std::path::PathBuf;

use causeway_queue::{LaneName, limits::LaneLimits};
use serde::{Deserialize, Serialize};

use super::secret::HiddenText;

/// One configured lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfiguredLane {
    /// The lane's name: 1 to 32 characters of a-z, 0-9 and `-`.
    pub(crate) name: LaneName,
    /// The models that are routed to the lane; the first lane also serves every model that no lane
    /// names. Default: none.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// The base URL of the lane's upstream. Default: `upstream` of the top level.
    #[serde(default)]
    pub(crate) upstream: Option<HiddenText>,
    /// The proxy: a URL, `none`, or `environment` for the one that `HTTP_PROXY`, `HTTPS_PROXY`,
    /// `ALL_PROXY` and `NO_PROXY` select. Default: `proxy` of the top level.
    #[serde(default)]
    pub(crate) proxy: Option<HiddenText>,
    /// A PEM file with certificates that are trusted in addition to the system's roots. Default:
    /// `ca_file` of the top level.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file with the client certificate and its chain. Default: `client_cert_file` of the top
    /// level.
    #[serde(default)]
    pub(crate) client_cert_file: Option<PathBuf>,
    /// A PEM file with the private key of that certificate. Default: `client_cert_file` contains
    /// the key.
    #[serde(default)]
    pub(crate) client_key_file: Option<PathBuf>,
    /// The environment variable that holds the upstream's API key. Default: none if the lane has an
    /// `upstream`, else that of the top level.
    #[serde(default)]
    pub(crate) api_key_env: Option<String>,
    /// The number of parts into which the lane's keys are divided over a Redis Cluster, 1 to 64.
    /// Default: 1.
    #[serde(default = "one")]
    pub(crate) shards: u16,
    /// The most jobs that run at once in all workers, at least `shards`. Default: no limit.
    #[serde(default)]
    pub(crate) max_running: Option<u32>,
    /// The most jobs that wait, at least `shards`. Default: 1,000,000.
    #[serde(default = "million")]
    pub(crate) max_queued: u64,
    /// The most attempts that start per minute, at least `shards`. Default: no limit.
    #[serde(default)]
    pub(crate) requests_per_minute: Option<u32>,
    /// The most tokens per minute, at least `shards`. Default: no limit.
    #[serde(default)]
    pub(crate) tokens_per_minute: Option<u64>,
    /// The value of the variable that `api_key_env` names.
    #[serde(skip)]
    pub(crate) api_key: Option<HiddenText>,
}

fn one() -> u16 {
    1
}

fn million() -> u64 {
    LaneLimits::default().max_queued
}

impl ConfiguredLane {
    /// Returns a lane with nothing but defaults.
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

    /// Returns the lane with default limits; the remaining settings need a restart to change.
    pub(crate) fn without_limits(&self) -> Self {
        self.with_limits_of(&Self::named(self.name.clone()))
    }

    /// Returns the lane with the limits of `other`.
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
