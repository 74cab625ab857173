//! One process of Causeway: API, worker, or both, over one queue.
//!
//! Every refusal happens before anything runs. The tasks of a process form one set and end in
//! order: the API releases waiting clients, the worker finishes its jobs or hands
//! them back, and then the process ends.

use std::{io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use causeway_api::{AppState, Settings, Tenants};
use causeway_queue::Queue;
use causeway_worker::{Signing, StopHandle, Worker};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    banner::{Banner, Role},
    config::{Config, ConfigSource},
    exposed_secrets, listen, logging, metrics, open_files, probe,
    reload::Reload,
    signals::Signals,
    store,
    upstream::{self, Clients},
    worker_metrics,
};

/// The interval at which the histograms of the metrics are drained.
const UPKEEP: Duration = Duration::from_secs(5);

/// The interval of discoveries of former shards by an API process.
const DISCOVERY: Duration = Duration::from_secs(60);

/// Starts logging, raises limits, runs a process of `role`, reloads, and stops on signals.
///
/// # Errors
/// If a resource that the process needs is unavailable.
pub(crate) async fn run(source: ConfigSource, role: Role) -> anyhow::Result<ExitCode> {
    let config = source.load()?;
    match role {
        Role::Up => {}
        Role::Api => store::need_redis(&config, "api")?,
        Role::Worker => store::need_redis(&config, "worker")?,
    }
    logging::start(&config.log, &source.environment)?;
    if let Some(shortage) = open_files::raise_for(&config, role) {
        tracing::warn!("{shortage}");
    }
    for warning in exposed_secrets::warnings(&source, &config) {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen().context("cannot install the signal handlers")?;
    let node = Process::prepare(config.clone(), role).await?;
    let mut helpers = JoinSet::new();
    let registry = node.api.as_ref().map(|(_, state)| state.registry());
    let taken_over = (registry, node.signing.clone());
    let reload = Reload::listen(source, config, node.queue.clone(), taken_over);
    helpers.spawn(reload.context("cannot install the signal handlers")?.run());
    // A process serves even if its standard output is closed.
    drop(std::io::stdout().write_all(node.banner().to_string().as_bytes()));
    let stop = StopHandle::new();
    let mut running = std::pin::pin!(node.run(stop.clone()));
    let name = tokio::select! {
        ended = &mut running => return ended.map(|()| ExitCode::SUCCESS),
        name = signals.next() => name,
    };
    stop.drain();
    tracing::info!(
        signal = name,
        "stopping: running calls are finished, a second signal ends them"
    );
    let name = tokio::select! {
        ended = &mut running => return ended.map(|()| ExitCode::SUCCESS),
        name = signals.next() => name,
    };
    stop.now();
    tracing::warn!(signal = name, "stopping at once");
    running.await.map(|()| ExitCode::SUCCESS)
}

/// A process that is ready to run.
#[derive(Debug)]
pub(crate) struct Process {
    role: Role,
    config: Config,
    queue: Queue,
    signing: Signing,
    api: Option<(TcpListener, AppState)>,
    worker: Option<Worker>,
    probe: Option<TcpListener>,
    metrics: PrometheusHandle,
    /// The upstreams that the worker calls.
    to_check: Option<Clients>,
}

impl Process {
    /// Opens the store, binds the ports and makes the components of `role`.
    ///
    /// # Errors
    /// If anything is refused; then nothing runs.
    pub(crate) async fn prepare(config: Config, role: Role) -> anyhow::Result<Self> {
        let metrics = metrics::start()?;
        let (serves, works) = match role {
            Role::Up => (true, true),
            Role::Api => (true, false),
            Role::Worker => (false, true),
        };
        if works {
            upstream::need_upstreams(&config)?;
        }
        let listener = serves.then(|| listen::listen(config.bind)).transpose()?;
        let probe =
            config.probe.filter(|_| role == Role::Worker).map(listen::listen).transpose()?;
        let queue = store::open(&config).await?;
        if serves {
            listen::refuse_open_bind(&config, causeway_api::has_tenants(&queue).await?)?;
        }
        let signing = config.signing();
        let clients = clients(&config, works)?;
        let worker = match &clients {
            Some(clients) if works => Some(worker(&config, &queue, signing.clone(), clients)?),
            Some(_) | None => None,
        };
        if serves {
            queue.discover().await?;
        }
        let api = listener.map(|listener| {
            let health = worker.as_ref().map(Worker::health);
            let handle = metrics.clone();
            let settings = Settings {
                max_connections: open_files::for_clients(&config, role),
                ..api_settings(&config, role, clients.as_ref())
            };
            let is_alive =
                move || health.as_ref().is_none_or(|health| health.is_alive(probe::STUCK));
            let metrics = move || handle.render();
            let tenants = Tenants::open();
            (listener, AppState::new(queue.clone(), settings, tenants, metrics, is_alive))
        });
        if let Some((_, state)) = &api {
            state.registry().configure(config.callers(), config.lane_limits()).await?;
        }
        let to_check = clients.filter(|_| works);
        Ok(Self { role, config, queue, signing, api, worker, probe, metrics, to_check })
    }

    /// Returns the address on which the API listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.api.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Returns the start-up lines.
    pub(crate) fn banner(&self) -> Banner<'_> {
        let probe = self.probe.as_ref().and_then(|listener| listener.local_addr().ok());
        let tenants = self.api.as_ref().map_or(0, |(_, state)| state.registry().count());
        Banner { role: self.role, config: &self.config, api: self.address(), tenants, probe }
    }

    /// Runs until `stop` requests the end, or a component fails.
    ///
    /// # Errors
    /// If a component ends without a request.
    pub(crate) async fn run(self, stop: StopHandle) -> anyhow::Result<()> {
        let mut upkeep = JoinSet::new();
        upkeep.spawn(keep_up(self.metrics.clone()));
        if let Some(clients) = self.to_check {
            upkeep.spawn(upstream::check::after_start(self.config.clone(), clients));
        }
        if self.worker.is_none() {
            // Workers watch for themselves.
            upkeep.spawn(self.queue.clone().watch(DISCOVERY, drop));
        }
        let mut probes = JoinSet::new();
        let mut parts = JoinSet::<anyhow::Result<()>>::new();
        // Cancelled when no answer can come from here any more. Over Redis another worker may answer: the API waits for
        // `drain`.
        let mut ended = CancellationToken::new();
        if let Some((listener, state)) = self.api {
            upkeep.spawn(worker_metrics::run(self.queue.clone()));
            ended = state.stopping();
            let heard = stop.stop();
            let at_once = stop.stop();
            let abort = ended.clone();
            upkeep.spawn(async move {
                at_once.at_once().await;
                abort.cancel();
            });
            parts.spawn(async move {
                causeway_api::serve(listener, state, async move { heard.draining().await }).await;
                Ok(())
            });
        }
        let heard = stop.stop();
        if let Some(worker) = self.worker {
            let kept_in_memory = self.config.redis.is_none().then_some(self.queue);
            if let Some(listener) = self.probe {
                let routes = probe::routes(worker.health(), self.metrics);
                probes.spawn(probe::serve(listener, routes));
            }
            parts.spawn(async move {
                let drained = worker.run(heard).await;
                match kept_in_memory {
                    // No job that still waits will be answered.
                    Some(queue) => {
                        ended.cancel();
                        tell_lost(&queue).await?;
                    }
                    None if drained.handed_back > 0 => {
                        tracing::info!(jobs = drained.handed_back, "running jobs were handed back");
                    }
                    None => {}
                }
                Ok(())
            });
        }
        let heard = stop.stop();
        while let Some(part) = parts.join_next().await {
            part.context("a component of the process failed")??;
            if !heard.is_draining() {
                bail!("a component of the process ended without a request; the log says why");
            }
        }
        Ok(())
    }
}

fn worker(
    config: &Config,
    queue: &Queue,
    signing: Signing,
    clients: &Clients,
) -> anyhow::Result<Worker> {
    let upstreams = upstream::of_lanes(config, queue, signing, clients)?;
    Ok(Worker::new(queue.clone(), config.worker()?, upstreams))
}

/// Returns the settings of the HTTP API, with the models that this process knows or can fetch.
fn api_settings(config: &Config, role: Role, clients: Option<&Clients>) -> Settings {
    let models = upstream::models::configured(config, role);
    let models_source = clients.and_then(|clients| upstream::models::source(config, clients));
    let simulated_lanes = match role {
        Role::Up => upstream::simulated_lanes(config),
        Role::Api | Role::Worker => Vec::new(),
    };
    let direct = clients.map(|clients| upstream::direct::source(config, clients));
    let serves_any_model = models_source.is_none() && upstream::models::are_unknown(config, role);
    let own = config.api();
    Settings { models, models_source, direct, serves_any_model, simulated_lanes, ..own }
}

/// Makes the clients of the upstreams. An API process needs them only for the list of models and
/// for direct calls.
fn clients(config: &Config, works: bool) -> anyhow::Result<Option<Clients>> {
    match Clients::of(config) {
        Err(error) if !works => {
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "GET /v1/models and direct calls (audio, images, moderations) do not reach the upstreams"
            );
            Ok(None)
        }
        clients => clients.map(Some),
    }
}

/// Logs the number of jobs that are lost with this process.
async fn tell_lost(queue: &Queue) -> anyhow::Result<()> {
    let mut lost = 0;
    for shard in queue.shards() {
        let stats = queue.views().stats(&shard, None).await?;
        lost += stats.queued + stats.running;
    }
    if lost > 0 {
        tracing::warn!(jobs = lost, "the store is in memory: jobs that have not ended are lost");
    }
    Ok(())
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
