//! `causeway experiment`: many users send a message at the same moment; it measures how many are
//! answered and how long they wait.

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
    cli::ExperimentArgs,
    config::{Config, HiddenText, SimulatedSection},
    node::Process,
    open_files,
    target::Target,
};

/// Runs the experiment against the target, and prints and writes the results.
///
/// # Errors
/// If the target is unusable, or a file cannot be read or written.
pub(crate) async fn run(typed: ExperimentArgs) -> anyhow::Result<ExitCode> {
    // An unreadable file must fail before the run, not after it.
    let beside = earlier(&typed.beside)?;
    let report = match &typed.target {
        Some(target) => {
            prepare(typed.users, 1)?;
            against(target, target, &typed).await?
        }
        None => against_own(&typed).await?,
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

/// Returns the output for the text: standard error if standard output carries JSON.
fn text_output(typed: &ExperimentArgs) -> Box<dyn io::Write> {
    if typed.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
}

/// Runs the experiment against a Causeway in this process, with simulated calls.
async fn against_own(typed: &ExperimentArgs) -> anyhow::Result<Report> {
    // This process holds both ends of each connection.
    prepare(typed.users, 2)?;
    let mut config = Config {
        // A free port: another Causeway may use the default one.
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        simulated: SimulatedSection { call: Some(typed.call), ..SimulatedSection::default() },
        redis: typed.redis.as_ref().map(HiddenText::new),
        simulate: true,
        ..Config::default()
    };
    let users = usize::try_from(typed.users)?;
    // Each user holds a connection.
    config.api.max_connections = config.api.max_connections.max(users);
    if let Some(concurrency) = typed.concurrency {
        config.concurrency = usize::try_from(concurrency)?;
    }
    let concurrency = config.concurrency;
    let store = if config.redis.is_some() { "on Redis" } else { "with the embedded store" };
    let node = Process::prepare(config, Role::Up).await?;
    let address = node.address().context("this Causeway has no address")?;
    writeln!(
        text_output(typed),
        "a Causeway {store} serves on {address}: {concurrency} calls at once (--concurrency), each \
         simulated and {} s long",
        typed.call.as_secs_f64()
    )?;
    let title = format!("Causeway {store}, {concurrency} calls at once");
    let stop = StopHandle::new();
    let mut processes = JoinSet::new();
    processes.spawn(node.run(stop.clone()));
    let report = against(&format!("http://{address}"), &title, typed).await;
    // All users have their results, so nothing is left to drain.
    stop.now();
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    report
}

/// Runs the experiment against the server at `target`, and prints the results.
async fn against(target: &str, title: &str, typed: &ExperimentArgs) -> anyhow::Result<Report> {
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

/// Returns a bar that counts the finished users; hidden unless standard error is a terminal.
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
    // A steady tick would redraw a bar of one second only once.
    if timeout > Duration::from_secs(1) {
        bar.enable_steady_tick(Duration::from_secs(1));
    }
    bar
}

/// Raises the limit of open files for `users` with `each` handles. Without handles, users would
/// count as unanswered although the server is not to blame.
///
/// # Errors
/// If the limit cannot be enough.
fn prepare(users: u32, each: u64) -> anyhow::Result<()> {
    let connections = u64::from(users) * each;
    match open_files::shortage(open_files::raise(connections), connections) {
        Some(shortage) => bail!("{shortage}, or try fewer --users"),
        None => Ok(()),
    }
}
