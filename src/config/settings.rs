//! Conversion of the configuration into the settings of each crate.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use causeway_api::BridgeSettings;
use causeway_queue::{
    LaneName,
    address::Allowed,
    limits::{LaneLimits, TenantLimits},
    retry::Backoff,
};
use causeway_worker::{FailureMix, Signing, SimulatedSettings};

use super::{lane::ConfiguredLane, tenant::ConfiguredTenant, top_level::Config};

impl Config {
    /// Returns the configured lanes, or one named `default`; the lane of webhook deliveries is
    /// last.
    pub(crate) fn queue_lanes(&self) -> Vec<causeway_queue::Lane> {
        let lane = |lane: &ConfiguredLane| causeway_queue::Lane {
            name: lane.name.clone(),
            models: lane.models.clone(),
            shards: lane.shards,
        };
        let mut lanes: Vec<_> = self.lanes.iter().map(lane).collect();
        if lanes.is_empty() {
            lanes.push(causeway_queue::Lane::named(LaneName::default_lane()));
        }
        lanes.push(causeway_queue::Lane::named(LaneName::webhooks()));
        lanes
    }

    /// Returns the limits of the lanes.
    pub(crate) fn lane_limits(&self) -> HashMap<LaneName, LaneLimits> {
        self.lanes.iter().map(|lane| (lane.name.clone(), lane.limits())).collect()
    }

    /// Returns the tenants with their limits.
    pub(crate) fn callers(&self) -> Vec<(causeway_api::Tenant, TenantLimits)> {
        let caller = |tenant: &ConfiguredTenant| causeway_api::Tenant {
            id: tenant.id.clone(),
            key_sha256: tenant.key_sha256.iter().map(|digest| digest.0).collect(),
            admin: tenant.admin,
            is_rated: tenant.requests_per_minute.is_some() || tenant.tokens_per_minute.is_some(),
            webhooks: causeway_api::Webhooks {
                url: tenant.webhook_url.as_deref().map(Into::into),
                signs: !tenant.webhook_secrets.is_empty(),
            },
        };
        self.tenants.iter().map(|tenant| (caller(tenant), tenant.limits())).collect()
    }

    /// Returns the settings of the worker.
    ///
    /// # Errors
    /// If the retry policy is invalid.
    pub(crate) fn worker(&self) -> anyhow::Result<causeway_worker::WorkerSettings> {
        let backoff = Backoff::new(self.retry.base, self.retry.max).context("`retry`")?;
        Ok(causeway_worker::WorkerSettings {
            name: self.worker_name.clone().unwrap_or_else(process_name),
            concurrency: self.concurrency,
            lease: self.lease,
            drain: self.drain,
            backoff,
            timeouts: self.timeouts(),
            emit_window: self.emit_window,
            max_response_bytes: self.max_response_bytes,
            max_response_memory: self.max_response_memory,
            webhooks: causeway_worker::DeliverySettings {
                concurrency: self.webhooks.concurrency,
                retry_base: self.webhooks.retry_base,
            },
            ..causeway_worker::WorkerSettings::default()
        })
    }

    /// Returns the secrets that sign webhook events.
    pub(crate) fn signing(&self) -> Signing {
        let own = self.tenants.iter().filter(|tenant| !tenant.webhook_secrets.is_empty());
        let own = own.map(|tenant| (tenant.id.clone(), tenant.webhook_secrets.clone())).collect();
        Signing::new(self.webhook_secrets.clone(), own)
    }

    /// Returns the webhook receivers that are permitted although their addresses are not public.
    /// The check at the start has refused an invalid list.
    pub(crate) fn allowed(&self) -> Allowed {
        Allowed::new(self.webhooks.allow.iter().map(String::as_str)).unwrap_or_default()
    }

    /// Returns the time-outs of one call to an upstream.
    pub(crate) fn timeouts(&self) -> causeway_worker::CallTimeouts {
        causeway_worker::CallTimeouts {
            connect: self.timeouts.connect,
            first_byte: self.timeouts.first_byte,
            between_bytes: self.timeouts.between_bytes,
            total: self.timeouts.total,
        }
    }

    /// Returns the settings of the HTTP API.
    pub(crate) fn api(&self) -> causeway_api::Settings {
        let defaults = causeway_api::Settings::default();
        causeway_api::Settings {
            max_body_bytes: self.api.max_body_bytes,
            max_body_memory: self.api.max_body_memory,
            max_connections: self.api.max_connections,
            // Beyond loopback, a server knows only its configured names.
            hosts: (self.bind.ip().is_loopback() || !self.api.hosts.is_empty())
                .then(|| self.api.hosts.clone()),
            // An embedded store has only one API process: no client can reconnect to another.
            drain_pause: if self.redis.is_some() { self.api.drain_pause } else { Duration::ZERO },
            drain: self.drain,
            hands_over: self.redis.is_some(),
            max_wait: self.api.max_wait,
            hold: self.api.hold,
            max_jobs_per_call: self.api.max_jobs_per_call,
            max_delay: self.api.max_delay,
            idempotency_ttl: self.api.idempotency,
            ping: self.api.ping,
            forward_headers: self.api.forward_headers.clone(),
            cors_origins: self.api.cors_origins.clone(),
            // A conversation may not outlive the jobs that it refers to.
            conversation_memory: self.bridge.memory.min(self.retention),
            bridge: BridgeSettings {
                wait: self.bridge.wait,
                turns: self.bridge.turns,
                memory: self.bridge.memory,
                model: self.bridge.model.clone(),
                // 0 means no limit.
                max_tokens: Some(self.bridge.max_tokens).filter(|most| *most > 0),
                limit: self.bridge.limit,
                window: self.bridge.window,
                persona: self.persona.clone().unwrap_or_else(|| defaults.bridge.persona.clone()),
                ..defaults.bridge
            },
            webhooks: causeway_api::WebhookSettings {
                allowed: self.allowed(),
                signs: !self.webhook_secrets.is_empty(),
            },
            ..defaults
        }
    }

    /// Returns the settings of the simulated upstream.
    pub(crate) fn simulation(&self) -> SimulatedSettings {
        let knobs = &self.simulated;
        SimulatedSettings {
            ttft: knobs.first_token,
            tokens_per_s: knobs.tokens_per_second,
            tokens: knobs.tokens,
            call: knobs.call,
            stamps: knobs.stamps,
            seed: knobs.seed,
            failures: FailureMix {
                rate_limited: knobs.rate_limited,
                retry_after: knobs.retry_after,
                error: knobs.errors,
                hang: knobs.hangs,
                cut: knobs.cuts,
            },
        }
    }
}

/// Returns a name for this process: host and process id.
fn process_name() -> String {
    let host = rustix::system::uname();
    format!("{}:{}", host.nodename().to_string_lossy(), std::process::id())
}
