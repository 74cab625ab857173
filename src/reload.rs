//! Reads the configuration again while the process runs, on SIGHUP and when the file has changed.
//! Tenants and, in a process with an API, the limits of lanes take effect at once, everything else
//! at the next start. A process with an API also applies changes of the tenants in the store.

mod lanes;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use causeway_api::TenantRegistry;
use causeway_queue::Queue;
use causeway_worker::Signing;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::{Config, ConfigSource},
    listen,
};

/// The interval at which the file is checked for changes, and the store for lost limits.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The interval of reads of the tenants in the store: a change takes effect everywhere within 2 s.
const TENANT_INTERVAL: Duration = Duration::from_secs(1);

/// The state of reloading.
#[derive(Debug)]
pub(crate) struct Reload {
    source: ConfigSource,
    current: Config,
    queue: Queue,
    /// The tenants of an API process; a worker process has none, as limits are in the store.
    registry: Option<TenantRegistry>,
    signing: Signing,
    hangup: Signal,
}

impl Reload {
    /// Listens for SIGHUP. `current` is the configuration at the start.
    ///
    /// # Errors
    /// If the system refuses the handler.
    pub(crate) fn listen(
        source: ConfigSource,
        current: Config,
        queue: Queue,
        (registry, signing): (Option<TenantRegistry>, Signing),
    ) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { source, current, queue, registry, signing, hangup })
    }

    /// Reloads at each request and change, until it is dropped.
    pub(crate) async fn run(mut self) {
        let path = self.source.path();
        let mut seen = stamp(path.as_ref()).await;
        let (mut looks, mut tenants) = (interval(CHECK_INTERVAL), interval(TENANT_INTERVAL));
        tenants.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                _ = tenants.tick() => {
                    self.refresh_tenants().await;
                    continue;
                }
                _ = looks.tick() => {
                    self.uphold().await;
                    let now = stamp(path.as_ref()).await;
                    // A missing file changes nothing: editors may remove a file before they replace
                    // it.
                    if now.is_none() || now == seen {
                        continue;
                    }
                    seen = now;
                }
            }
            match self.reload().await {
                Ok(()) => tracing::info!(
                    tenants = self.current.tenants.len(),
                    lane_limits = self.registry.is_some(),
                    "the configuration was read again and applied"
                ),
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "cannot apply the new configuration: the former one stays in force"
                ),
            }
        }
    }

    /// Applies changes of the tenants in the store.
    async fn refresh_tenants(&self) {
        let Some(registry) = &self.registry else { return };
        if let Err(error) = registry.refresh().await {
            tracing::debug!(%error, "cannot read the tenants of the store");
        }
    }

    /// Sets the bounds again that a store has lost or not taken, and divides them anew with former shards;
    /// lets deadlines take effect while there is no worker.
    async fn uphold(&self) {
        if self.registry.is_some()
            && let Err(error) = self.queue.let_in().await
        {
            tracing::debug!(%error, "cannot apply deadlines: the store does not answer");
        }
        match self.queue.uphold_limits().await {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                "the store had lost the limits of lanes and tenants: they are set again"
            ),
            Err(error) => tracing::debug!(%error, "cannot check the limits in the store"),
        }
    }

    async fn reload(&mut self) -> anyhow::Result<()> {
        let mut new = self.source.load()?;
        if let Some(registry) = &self.registry {
            listen::refuse_open_bind(&new, !registry.stores_none())?;
            if registry.stores_none() {
                check_is_closed_as_before(&self.current, &new)?;
            }
        }
        if fixed(&new) != fixed(&self.current) {
            tracing::warn!(
                "other settings than tenants and lanes were changed: they need a restart"
            );
        }
        let (lanes, waiting) = lanes::merge(&self.current.lanes, &new.lanes);
        new.lanes = lanes;
        for change in waiting {
            tracing::warn!(%change, "a change of the lanes needs a restart");
        }
        self.signing.replace(&new.signing());
        if let Some(registry) = &self.registry {
            let had_admin = registry.has_admin();
            if let Err(error) = registry.configure(new.callers(), new.lane_limits()).await {
                tracing::warn!(%error, "cannot set the limits of lanes and tenants: they are set as soon as the store answers");
            }
            if had_admin && !registry.has_admin() {
                tracing::warn!(
                    "no tenant is an administrator any more: tenants cannot be changed, lanes not \
                     paused and the jobs of others not seen; set `admin = true` for a [[tenant]] of the configuration file"
                );
            }
        }
        self.current = new;
        Ok(())
    }
}

/// Refuses the first tenant of the file, and a file without any more: this decides the owner of jobs, and whether a call
/// needs a key.
fn check_is_closed_as_before(current: &Config, new: &Config) -> anyhow::Result<()> {
    ensure!(
        !current.tenants.is_empty() || new.tenants.is_empty(),
        "the file names its first tenant, but this process still serves every caller without a key: restart it, or \
         use `causeway tenant add` instead, which needs no restart"
    );
    ensure!(
        current.tenants.is_empty() || !new.tenants.is_empty(),
        "the file names no tenant any more, but this process still refuses calls without a key of one: restart it to \
         serve every caller"
    );
    Ok(())
}

/// Returns the settings outside of lanes that cannot change while the process runs.
fn fixed(config: &Config) -> Config {
    Config { tenants: Vec::new(), lanes: Vec::new(), ..config.clone() }
}

/// Returns the modification time and the length of the file, which reveal a change.
async fn stamp(path: Option<&PathBuf>) -> Option<(SystemTime, u64)> {
    let about = tokio::fs::metadata(path?).await.ok()?;
    Some((about.modified().ok()?, about.len()))
}
