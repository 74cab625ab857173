//! A process of the real binary, killed when its value is dropped.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
    task::JoinSet,
};

use super::{http::Client, soon};

/// The most lines that are kept of a process.
const LINES: usize = 10_000;

/// The addresses of servers without an argument: free ports, as the default ports may be in use on
/// this machine.
const FREE_PORTS: [(&str, &str); 2] =
    [("CAUSEWAY_BIND", "127.0.0.1:0"), ("CAUSEWAY_SIMULATED_PORT", "0")];

/// The environment of a process, which sets settings without a flag.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

/// A running `causeway`.
pub(crate) struct Causeway {
    child: Child,
    lines: Arc<Lines>,
    readers: JoinSet<()>,
}

impl Causeway {
    /// Starts `causeway` with these arguments and waits until its start-up lines are complete.
    pub(crate) async fn start(arguments: &[&str], settings: Settings<'_>) -> Self {
        let mut causeway = Self::launch(arguments, settings);
        causeway.ready().await;
        causeway
    }

    /// Runs a command that ends successfully by itself; returns its output.
    pub(crate) async fn command(arguments: &[&str], settings: Settings<'_>) -> String {
        let mut causeway = Self::launch(arguments, settings);
        let status = causeway.ended().await;
        assert!(status.success(), "{arguments:?}: {}", causeway.text());
        causeway.text()
    }

    /// Starts as [`start`](Self::start) does, with at most `handles` open files.
    pub(crate) async fn start_with_handles(
        handles: u32,
        arguments: &[&str],
        settings: Settings<'_>,
    ) -> Self {
        let mut shell = Command::new("/bin/sh");
        let script = format!("ulimit -n {handles}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_causeway")]).args(arguments);
        let mut causeway = Self::spawn(&mut shell, settings);
        causeway.ready().await;
        causeway
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn launch(arguments: &[&str], settings: Settings<'_>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        Self::spawn(command.args(arguments), settings)
    }

    fn spawn(command: &mut Command, settings: Settings<'_>) -> Self {
        let mut child = command
            .env_clear()
            .envs(FREE_PORTS)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let lines = Arc::new(Lines::default());
        let mut readers = JoinSet::new();
        let out = child.stdout.take().expect("its output");
        let err = child.stderr.take().expect("its messages");
        readers.spawn(Arc::clone(&lines).read_from(out));
        readers.spawn(Arc::clone(&lines).read_from(err));
        Self { child, lines, readers }
    }

    /// Starts `causeway up` with the embedded store.
    pub(crate) async fn up(upstream: &str, settings: Settings<'_>) -> Self {
        Self::start(&["up", "--bind", "127.0.0.1:0", "--upstream", upstream], settings).await
    }

    /// Starts `causeway api` over the Redis at `store`.
    pub(crate) async fn api(store: &str, settings: Settings<'_>) -> Self {
        Self::start(&["api", "--bind", "127.0.0.1:0", "--redis", store], settings).await
    }

    /// Starts `causeway worker` over the Redis at `store`, with `upstream`.
    pub(crate) async fn worker(store: &str, upstream: &str, settings: Settings<'_>) -> Self {
        Self::start(&["worker", "--redis", store, "--upstream", upstream], settings).await
    }

    /// Waits until the start-up lines are complete. The last line is `try` in a process with an
    /// API, and `worker` elsewhere.
    pub(crate) async fn ready(&mut self) {
        let last = self.lines.find(|line| {
            line.starts_with("  try ") || line.starts_with("  worker ") && !line.contains("none")
        });
        tokio::select! {
            _ = soon("the start-up lines", last) => {}
            status = self.child.wait() => {
                panic!("causeway ended with {status:?} at its start:\n{}", self.lines.text());
            }
        }
    }

    /// Waits for a line that contains `part`, among the previous and the next lines.
    pub(crate) async fn says(&self, part: &str) -> String {
        soon(&format!("a line with {part:?}"), self.lines.find(|line| line.contains(part))).await
    }

    /// Returns the output so far.
    pub(crate) fn text(&self) -> String {
        self.lines.text()
    }

    /// Returns the address that the start-up lines name.
    pub(crate) async fn url(&self) -> String {
        let line = self.says("  serving ").await;
        line.split_whitespace().last().expect("an address").to_owned()
    }

    /// Returns a client of its API.
    pub(crate) async fn client(&self) -> Client {
        Client::new(&self.url().await)
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Requests a stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Requests a reload of the configuration.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Kills the process, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Suspends the process, as a hanging machine would.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes the process.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until the process has ended by itself and all of its output is read.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = soon("the end of causeway", self.child.wait()).await;
        while self.readers.join_next().await.is_some() {}
        status.expect("it can be waited for")
    }

    fn signal(&self, signal: Signal) {
        let id =
            Pid::from_raw(i32::try_from(self.id()).expect("a process id")).expect("a process id");
        kill_process(id, signal).expect("it can be signalled");
    }
}

/// The last lines of a process's output.
#[derive(Default)]
struct Lines {
    kept: Mutex<VecDeque<String>>,
    more: Notify,
}

impl Lines {
    async fn read_from(self: Arc<Self>, source: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(source).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("causeway| {line}");
            let mut kept = self.kept.lock().expect("no reader panics");
            kept.push_back(line);
            if kept.len() > LINES {
                kept.pop_front();
            }
            drop(kept);
            self.more.notify_waiters();
        }
    }

    async fn find(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let more = self.more.notified();
            let mut more = std::pin::pin!(more);
            more.as_mut().enable();
            let found =
                self.kept.lock().expect("no reader panics").iter().find(|l| wanted(l)).cloned();
            match found {
                Some(line) => return line,
                None => more.await,
            }
        }
    }

    fn text(&self) -> String {
        let kept = self.kept.lock().expect("no reader panics");
        kept.iter().map(|line| format!("{line}\n")).collect()
    }
}
