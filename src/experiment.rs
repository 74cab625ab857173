//! `causeway experiment`: many users press enter at the same moment; how many are answered, and
//! how long do they wait?

mod load;
mod plot;
mod report;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
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

/// Runs the experiment against the target, and prints and writes the results.
///
/// # Errors
/// If the target is unusable, or a file cannot be read or written.
pub(crate) async fn run(typed: Experiment) -> anyhow::Result<ExitCode> {
    let beside = earlier(&typed.beside)?;
    let report = match &typed.target {
        Some(target) => {
            prepare(typed.users, 1)?;
            against(target, target, &typed).await?
        }
        None => alone(&typed).await?,
    };
    if typed.json {
        let json = serde_json::to_string(&report).context("cannot write the report as JSON")?;
        writeln!(io::stdout(), "{json}")?;
    }
    if let Some(path) = &typed.plot {
        let reports: Vec<Report> = beside.into_iter().chain([report]).collect();
        fs::write(path, plot::svg(&reports)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the reports of earlier runs.
fn earlier(paths: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let read = |path: &PathBuf| {
        let text =
            fs::read(path).with_context(|| format!("--beside: cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|_| anyhow!("--beside: {} does not hold what --json printed", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Returns the output of the text for people: standard error if standard output is for JSON.
fn text_output(typed: &Experiment) -> Box<dyn io::Write> {
    if typed.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
}

/// Runs the experiment against a Causeway of its own in this process, with simulated calls.
async fn alone(typed: &Experiment) -> anyhow::Result<Report> {
    prepare(typed.users, 2)?;
    let mut config = Config {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        simulated: Simulated { call: Some(typed.call), ..Simulated::default() },
        redis: typed.redis.as_ref().map(Secret::new),
        simulate: true,
        ..Config::default()
    };
    let users = usize::try_from(typed.users)?;
    config.api.max_connections = config.api.max_connections.max(users);
    if let Some(concurrency) = typed.concurrency {
        config.concurrency = usize::try_from(concurrency)?;
    }
    let concurrency = config.concurrency;
    let store = if config.redis.is_some() { "on Redis" } else { "with the embedded store" };
    let node = Node::prepare(config, Role::Up).await?;
    let address = node.address().context("this Causeway has no address")?;
    writeln!(
        text_output(typed),
        "a Causeway {store} serves on {address}: {concurrency} calls at once (--concurrency), each \
         simulated and {} s long",
        typed.call.as_secs_f64()
    )?;
    let title = format!("Causeway {store}, {concurrency} calls at once");
    let stop = StopHandle::new();
    let mut parts = JoinSet::new();
    parts.spawn(node.run(stop.clone()));
    let report = against(&format!("http://{address}"), &title, typed).await;
    stop.now();
    while let Some(ended) = parts.join_next().await {
        ended??;
    }
    report
}

/// Runs the experiment against the server at `target`, and prints the results.
async fn against(target: &str, title: &str, typed: &Experiment) -> anyhow::Result<Report> {
    let plan = Plan {
        target: Target::find("--target", target, &typed.path).await?,
        users: typed.users,
        timeout: typed.timeout,
    };
    writeln!(
        text_output(typed),
        "{} users send a message to {target} at the same moment",
        plan.users
    )?;
    let started_at = jiff::Timestamp::now().to_string();
    let bar = progress_bar(plan.users, plan.timeout);
    let visits = load::run(plan, |_| bar.inc(1)).await;
    bar.finish_and_clear();
    let title = typed.title.as_deref().unwrap_or(title).to_owned();
    let report = Report::of(title, started_at, typed.timeout, visits);
    write!(text_output(typed), "{report}")?;
    Ok(report)
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

/// Raises the limit of open files for `users` who take `each` handles: what lacks them here would count as unanswered.
///
/// # Errors
/// If the limit cannot be enough.
fn prepare(users: u32, each: u64) -> anyhow::Result<()> {
    let connections = u64::from(users) * each;
    match handles::shortage(handles::raise(connections), connections) {
        Some(shortage) => bail!("{shortage}, or try fewer --users"),
        None => Ok(()),
    }
}
