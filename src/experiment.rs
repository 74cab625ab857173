//! `causeway experiment`: many users press enter at the same moment; how many are answered, and
//! how long do they wait?

mod load;
mod plot;
mod report;

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use causeway_worker::StopHandle;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;

use self::{load::Plan, report::Report};
use crate::{
    banner::Role,
    cli::Experiment,
    config::{Config, Secret, Simulated},
    handles,
    node::Node,
    target::Target,
};

/// Runs the experiment against the target, and prints and writes what it showed.
///
/// # Errors
/// When the target is none, or a file cannot be written.
pub(crate) async fn run(typed: Experiment) -> anyhow::Result<ExitCode> {
    match &typed.target {
        Some(target) => {
            prepare(typed.users, 1)?;
            against(target, &typed).await
        }
        None => alone(&typed).await,
    }
}

/// The experiment against a Causeway of its own in this process, with simulated calls.
async fn alone(typed: &Experiment) -> anyhow::Result<ExitCode> {
    prepare(typed.users, 2)?;
    let concurrency = usize::try_from(typed.users)?.max(256);
    let simulated = Simulated { call: Some(typed.call), ..Simulated::default() };
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let redis = typed.redis.as_ref().map(Secret::new);
    let store = if redis.is_some() { "on Redis" } else { "with the embedded store" };
    let config =
        Config { bind, concurrency, simulated, redis, simulate: true, ..Config::default() };
    let node = Node::prepare(config, Role::Up).await?;
    let address = node.address().context("this Causeway has no address")?;
    writeln!(
        io::stdout(),
        "a Causeway {store} serves on {address}; each simulated call takes {} s",
        typed.call.as_secs_f64()
    )?;
    let stop = StopHandle::new();
    let mut parts = JoinSet::new();
    parts.spawn(node.run(stop.clone()));
    let outcome = against(&format!("http://{address}"), typed).await;
    stop.now();
    while let Some(ended) = parts.join_next().await {
        ended??;
    }
    outcome
}

/// The experiment against the server at `target`.
async fn against(target: &str, typed: &Experiment) -> anyhow::Result<ExitCode> {
    let plan = Plan {
        target: Target::find("--target", target, &typed.path).await?,
        users: typed.users,
        timeout: typed.timeout,
    };
    let mut out = io::stdout();
    writeln!(out, "{} users send a message to {target} at the same moment", plan.users)?;
    let started_at = jiff::Timestamp::now().to_string();
    let bar = progress_bar(plan.users, plan.timeout);
    let visits = load::run(plan, |_| bar.inc(1)).await;
    bar.finish_and_clear();
    let title = typed.title.clone().unwrap_or_else(|| target.to_owned());
    let report = Report::of(title, started_at, typed.timeout, visits);
    write!(out, "{report}")?;
    if let Some(path) = &typed.json {
        let json = serde_json::to_string(&report).context("cannot write the report as JSON")?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &typed.plot {
        let svg = plot::svg(&report)?;
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts who is done; on a terminal only.
fn progress_bar(users: u32, timeout: Duration) -> ProgressBar {
    let style = "{elapsed:>3} {wide_bar} {pos}/{len} done";
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(users.into()), target);
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    if timeout > Duration::from_secs(1) {
        bar.enable_steady_tick(Duration::from_secs(1));
    }
    bar
}

/// Raises the limit of open files, and tells when it cannot be enough for `users`, who take
/// `each` handles.
fn prepare(users: u32, each: u64) -> anyhow::Result<()> {
    let connections = u64::from(users) * each;
    if let Some(shortage) = handles::shortage(handles::raise(connections), connections) {
        writeln!(io::stderr(), "warning: {shortage}")?;
    }
    Ok(())
}
