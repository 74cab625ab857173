//! Checks that types cannot express: bounds, and the targets of settings.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use causeway_api::{InvalidPattern, check_forwarded, check_webhook_url};
use causeway_queue::{address::Allowed, webhook::is_of_deliveries};
use causeway_worker::{Address, MAX_RETRY_BASE, ProxyVariables, WebhookSecret};

use super::{
    environment::Environment,
    error::ConfigError,
    range::Range,
    secret::{HiddenText, without_password},
    tenant::Digest,
    top_level::Config,
};

/// A value that breaks a rule of its setting.
pub(super) struct Violation {
    pub(super) key: &'static str,
    pub(super) rule: String,
}

/// Checks the bounds of all settings.
pub(super) fn limits(config: &Config) -> Result<(), Violation> {
    let day = Duration::from_secs(86_400);
    let ms = Duration::from_millis;
    number("concurrency", config.concurrency)?;
    number("max_stalls", config.max_stalls)?;
    number("max_dead", config.max_dead)?;
    number("max_response_bytes", config.max_response_bytes)?;
    number("max_response_memory", config.max_response_memory)?;
    response_memory(config)?;
    worker_name(config.worker_name.as_deref())?;
    number("api.max_body_bytes", config.api.max_body_bytes)?;
    number("api.max_body_memory", config.api.max_body_memory)?;
    number("api.max_connections", config.api.max_connections)?;
    number("api.max_jobs_per_call", config.api.max_jobs_per_call)?;
    number("bridge.turns", config.bridge.turns)?;
    duration("drain", config.drain, ms(0)..=day)?;
    duration("lease", config.lease, ms(100)..=day)?;
    duration("retention", config.retention, ms(1000)..=day * 365)?;
    duration("give_up_after", config.give_up_after, ms(1000)..=day * 365)?;
    duration("emit_window", config.emit_window, ms(1)..=ms(10_000))?;
    duration("api.max_wait", config.api.max_wait, ms(0)..=day)?;
    duration("api.hold", config.api.hold, ms(1000)..=day)?;
    duration("api.ping", config.api.ping, ms(100)..=day)?;
    duration("api.drain_pause", config.api.drain_pause, ms(0)..=day)?;
    forwarded(&config.api.forward_headers)?;
    origins(&config.api.cors_origins)?;
    duration("bridge.wait", config.bridge.wait, ms(0)..=day)?;
    duration("bridge.memory", config.bridge.memory, ms(1000)..=day * 365)?;
    duration("bridge.window", config.bridge.window, ms(1000)..=day)?;
    duration("timeouts.connect", config.timeouts.connect, ms(1)..=day)?;
    duration("timeouts.first_byte", config.timeouts.first_byte, ms(1)..=day)?;
    duration("timeouts.between_bytes", config.timeouts.between_bytes, ms(1)..=day)?;
    duration("timeouts.total", config.timeouts.total, ms(1)..=day)?;
    number("webhooks.concurrency", config.webhooks.concurrency)?;
    number("webhooks.tenant_concurrency", config.webhooks.tenant_concurrency)?;
    duration("webhooks.timeout", config.webhooks.timeout, ms(1)..=ms(60_000))?;
    duration("webhooks.retry_base", config.webhooks.retry_base, ms(1)..=MAX_RETRY_BASE)?;
    let allowed = allowed(&config.webhooks.allow)?;
    duration("retry.base", config.retry.base, ms(1)..=day)?;
    duration("retry.max", config.retry.max, config.retry.base..=day)?;
    number("bridge.limit", config.bridge.limit)?;
    simulated(config)?;
    tenants(config, &allowed)?;
    lanes(config)?;
    upstream(config)?;
    address("client.url", Some(&config.client.url))
}

/// Checks that the memory for answers has room for the longest one.
fn response_memory(config: &Config) -> Result<(), Violation> {
    let (memory, longest) = (config.max_response_memory, config.max_response_bytes);
    if memory >= longest {
        return Ok(());
    }
    let rule = format!(
        "is {memory}, it must be at least `max_response_bytes`, {longest}: raise it, or lower `max_response_bytes`"
    );
    Err(Violation { key: "max_response_memory", rule })
}

/// Checks that the worker's name fits into a table.
fn worker_name(name: Option<&str>) -> Result<(), Violation> {
    let is_name = |name: &str| {
        (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    };
    if name.is_none_or(is_name) {
        return Ok(());
    }
    let rule = "must have 1 to 100 characters, none of them a control character".to_owned();
    Err(Violation { key: "worker_name", rule })
}

/// Parses the receivers of `webhooks.allow`.
fn allowed(texts: &[String]) -> Result<Allowed, Violation> {
    Allowed::new(texts.iter().map(String::as_str)).map_err(|error| Violation {
        key: "webhooks.allow",
        rule: format!("cannot be read: {error}"),
    })
}

/// Checks `api.forward_headers`.
fn forwarded(patterns: &[String]) -> Result<(), Violation> {
    let wrong = |error: InvalidPattern| Violation {
        key: "api.forward_headers",
        rule: format!("cannot be used: {error}"),
    };
    patterns.iter().try_for_each(|pattern| check_forwarded(pattern).map_err(wrong))
}

/// Checks `api.cors_origins`: an origin is a scheme and a host, without a path (RFC 6454, section 6.2).
fn origins(origins: &[String]) -> Result<(), Violation> {
    let is_origin = |text: &String| {
        text == "*"
            || reqwest::Url::parse(text)
                .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *text)
    };
    let Some(wrong) = origins.iter().find(|text| !is_origin(text)) else { return Ok(()) };
    let rule = format!("has {wrong:?}; it must be \"*\" or look like \"https://app.example.org\"");
    Err(Violation { key: "api.cors_origins", rule })
}

fn tenants(config: &Config, allowed: &Allowed) -> Result<(), Violation> {
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    for tenant in &config.tenants {
        let id = &tenant.id;
        let wrong = |rule: String| Err(Violation { key: "tenant", rule: format!("{id} {rule}") });
        if !ids.insert(id) {
            return wrong("is configured twice".to_owned());
        }
        if tenant.key_sha256.is_empty() {
            return wrong("has no key: `causeway tenant key` makes one".to_owned());
        }
        if let Some(what) = tenant.key_sha256.iter().find_map(Digest::weakness) {
            return wrong(format!(
                "has the hash of {what} for a key: `causeway tenant key` makes one that cannot be guessed"
            ));
        }
        // A key identifies one tenant.
        if !tenant.key_sha256.iter().all(|key| keys.insert(key)) {
            return wrong("has a key of another tenant: each key identifies one tenant".to_owned());
        }
        let range = Range::of("tenant.weight");
        if !range.contains(tenant.weight.into()) {
            return wrong(format!("has weight {}, it must be {range}", tenant.weight));
        }
        if let Some(url) = &tenant.webhook_url {
            if let Err(error) = check_webhook_url(allowed, url) {
                return wrong(format!("has a webhook_url that cannot be used: {error}"));
            }
            if tenant.webhook_secret_env.is_empty() && config.webhooks.secret_env.is_empty() {
                return wrong(
                    "has a webhook_url, but there is no secret to sign its events with: \
                              name one in webhooks.secret_env"
                        .to_owned(),
                );
            }
        }
        let limits = tenant.limits();
        if let Some(name) =
            too_low(&limits.max_running, &limits.requests_per_minute, &limits.tokens_per_minute, 1)
        {
            return wrong(format!("could never run anything: {name} must be at least 1"));
        }
        if limits.max_queued == Some(0) {
            return wrong("could never accept anything: max_queued is 0".to_owned());
        }
    }
    Ok(())
}

/// Returns the name of the limit that is below `least`, if one is.
fn too_low(
    running: &Option<u32>,
    requests: &Option<u32>,
    tokens: &Option<u64>,
    least: u16,
) -> Option<&'static str> {
    let limits = [
        ("max_running", running.map(u64::from)),
        ("requests_per_minute", requests.map(u64::from)),
        ("tokens_per_minute", *tokens),
    ];
    let low = limits.into_iter().find(|(_, limit)| limit.is_some_and(|b| b < u64::from(least)));
    low.map(|(name, _)| name)
}

fn lanes(config: &Config) -> Result<(), Violation> {
    let (mut names, mut models) = (HashSet::new(), HashSet::new());
    for lane in &config.lanes {
        let name = &lane.name;
        let wrong = |rule: String| Err(Violation { key: "lane", rule: format!("{name} {rule}") });
        if !names.insert(name) {
            return wrong("is configured twice".to_owned());
        }
        if is_of_deliveries(name) {
            return wrong("is the lane of deliveries to webhooks; take another name".to_owned());
        }
        if let Some(model) = lane.models.iter().find(|model| !models.insert(*model)) {
            return wrong(format!("has the model {model:?}, which another lane has already"));
        }
        let range = Range::of("lane.shards");
        if !range.contains(lane.shards.into()) {
            return wrong(format!("has {} shards, it must have {range}", lane.shards));
        }
        let limits = lane.limits();
        if let Some(limit) = too_low(
            &limits.max_running,
            &limits.requests_per_minute,
            &limits.tokens_per_minute,
            // Each shard gets a whole share of the lane's limit, at least 1.
            lane.shards,
        ) {
            return wrong(format!(
                "would leave a shard with nothing: {limit} must be at least its shards, {}",
                lane.shards
            ));
        }
        if limits.max_queued < u64::from(lane.shards) {
            return wrong(format!(
                "could never accept anything: max_queued is {}",
                limits.max_queued
            ));
        }
        if let Some(Err(error)) = lane.upstream.as_ref().map(|url| Address::parse(url.expose())) {
            return wrong(format!("has an upstream that {error}"));
        }
        if let Some((key, rule)) = lane.connection().fault() {
            return wrong(format!("has a `{key}` that {rule}"));
        }
    }
    Ok(())
}

fn upstream(config: &Config) -> Result<(), Violation> {
    if let Some(Err(error)) = config.upstream.as_ref().map(|url| Address::parse(url.expose())) {
        return Err(Violation { key: "upstream", rule: error.to_string() });
    }
    config.connection().fault().map_or(Ok(()), |(key, rule)| Err(Violation { key, rule }))
}

fn simulated(config: &Config) -> Result<(), Violation> {
    let knobs = &config.simulated;
    if !(knobs.tokens_per_second > 0.0 && knobs.tokens_per_second.is_finite()) {
        let rule = "must be more than 0".to_owned();
        return Err(Violation { key: "simulated.tokens_per_second", rule });
    }
    number("simulated.tokens", knobs.tokens)?;
    let shares = [
        ("simulated.rate_limited", knobs.rate_limited),
        ("simulated.errors", knobs.errors),
        ("simulated.hangs", knobs.hangs),
        ("simulated.cuts", knobs.cuts),
    ];
    for (key, share) in shares {
        if !(0.0..=1.0).contains(&share) {
            return Err(Violation { key, rule: format!("is {share}, a share must be 0 to 1") });
        }
    }
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    // A call fails in one way only, so the shares are disjoint.
    if sum > 1.0 {
        let rule = "and the other shares of failures add up to more than 1".to_owned();
        return Err(Violation { key: "simulated.errors", rule });
    }
    Ok(())
}

fn number(key: &'static str, value: impl TryInto<u64>) -> Result<(), Violation> {
    let (range, value) = (Range::of(key), value.try_into().unwrap_or(u64::MAX));
    if range.contains(value) {
        return Ok(());
    }
    Err(Violation { key, rule: format!("is {value}, it must be {range}") })
}

fn duration(
    key: &'static str,
    value: Duration,
    within: RangeInclusive<Duration>,
) -> Result<(), Violation> {
    if within.contains(&value) {
        return Ok(());
    }
    let [value, from, to] = [value, *within.start(), *within.end()].map(super::duration::format);
    Err(Violation { key, rule: format!("is {value}, it must be {from} to {to}") })
}

fn address(key: &'static str, value: Option<&str>) -> Result<(), Violation> {
    let wrong = |rule: String| Err(Violation { key, rule: format!("is {rule}") });
    value.and_then(address_fault).map_or(Ok(()), wrong)
}

/// Describes why `text` is not the address of a server; `None` if it is one.
fn address_fault(text: &str) -> Option<String> {
    let parsed = reqwest::Url::parse(text).ok();
    let fits = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let form = "http://host:port or https://host:port";
    (!fits).then(|| format!("{:?}, it must look like {form}", without_password(text)))
}

/// Reads the targets of settings: keys in the environment, and the persona's file.
pub(super) fn resolve(config: &mut Config, environment: &Environment) -> Result<(), ConfigError> {
    config.api_key = named_secret("`api_key_env`", config.api_key_env.as_deref(), environment)?;
    config.client_key =
        named_secret("`client.key_env`", config.client.key_env.as_deref(), environment)?;
    for lane in &mut config.lanes {
        let location = format!("`api_key_env` of lane {}", lane.name);
        lane.api_key = named_secret(&location, lane.api_key_env.as_deref(), environment)?;
    }
    let secrets = |location: &str, names: &[String]| -> Result<Vec<WebhookSecret>, ConfigError> {
        names.iter().map(|name| webhook_secret(location, name, environment)).collect()
    };
    config.webhook_secrets = secrets("`webhooks.secret_env`", &config.webhooks.secret_env)?;
    for tenant in &mut config.tenants {
        let location = format!("`webhook_secret_env` of tenant {}", tenant.id);
        tenant.webhook_secrets = secrets(&location, &tenant.webhook_secret_env)?;
    }
    let variable = |name: &str| environment.get(name).map(String::as_str);
    config.proxy_variables =
        ProxyVariables::read(variable).map_err(|error| ConfigError(error.to_string()))?;
    if let Some(path) = &config.bridge.persona_file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError(format!("cannot read `bridge.persona_file` {}: {error}", path.display()))
        })?;
        config.persona = Some(text.trim_end().to_owned());
    }
    Ok(())
}

fn webhook_secret(
    location: &str,
    name: &str,
    environment: &Environment,
) -> Result<WebhookSecret, ConfigError> {
    let text = named_secret(location, Some(name), environment)?;
    let text = text.as_ref().map_or("", HiddenText::expose);
    WebhookSecret::parse(text).map_err(|error| {
        ConfigError(format!("{location}: the variable {name} cannot be used: {error}"))
    })
}

fn named_secret(
    location: &str,
    name: Option<&str>,
    environment: &Environment,
) -> Result<Option<HiddenText>, ConfigError> {
    let Some(name) = name else { return Ok(None) };
    match environment.get(name) {
        // A variable that was read from a file often ends with a line end.
        Some(text) if !text.trim().is_empty() => Ok(Some(HiddenText::new(text.trim()))),
        Some(_) | None if looks_like_variable(name) => Err(ConfigError(format!(
            "{location} names the variable {name} for the key, which is not set: set it"
        ))),
        // A user who wrote the key itself in place of a variable's name must not read it in a log.
        Some(_) | None => Err(ConfigError(format!(
            "{location} must name the variable that holds the key; no variable has the name \
             that is written there, which is hidden: it may be the key itself"
        ))),
    }
}

/// Returns true if `name` looks like an environment variable: upper-case letters, digits and
/// underscores, unlike most keys.
fn looks_like_variable(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
