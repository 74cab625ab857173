//! The terminals of a reader: servers, and the one that commands are pasted into.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::block::Block;
use crate::support::{redis::free_port, soon, upstream::Upstream};

/// The last line that a server prints before it is ready, by a part of its command; other servers
/// end with [`TRY`].
const READY: [(&str, &str); 3] = [
    ("causeway worker", "  worker    2"),
    ("redis-server", "Ready to accept connections"),
    ("HTTPServer", "a receiver is ready"),
];

/// The last line of a server with an API.
const TRY: &str = "  try ";

/// The time-out of a silent block of commands: the experiment takes 20 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// The line after each pasted block.
const DONE: &str = "=== done";

/// The line of a failed command.
pub(super) const FAILED: &str = "=== failed";

/// A reader of one page, with programs, settings and servers.
pub(super) struct Reader {
    directory: tempfile::TempDir,
    ports: [(&'static str, String); 4],
    pub(super) servers: Vec<Terminal>,
    _upstream: Upstream,
}

/// A shell, or the server that has replaced it, since bash replaces itself with a single command.
/// Dropping it kills the process.
pub(super) struct Terminal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script");
        };
        let binary = env!("CARGO_BIN_EXE_causeway");
        program("causeway", &format!("#!/bin/sh\nexec {binary} \"$@\"\n"));
        let run = "[ \"$1 $2 $3\" = 'run --release --' ] && shift 3 && exec causeway \"$@\"";
        program("cargo", &format!("#!/bin/sh\n{run}\nexit 64\n"));
        // A refusal must fail the command.
        fs::write(directory.path().join(".curlrc"), "fail-with-body\nno-progress-meter\n")
            .expect("a file");
        let upstream = Upstream::echo().await;
        let url = upstream.url();
        let port = url.trim_end_matches("/v1").rsplit(':').next().expect("a port").to_owned();
        // A drawn port must hold no known one, because the known ones are replaced one after another.
        let known = ["4004", "6379", "8900", "9101"];
        let draw = || loop {
            let port = free_port().to_string();
            if !known.iter().any(|known| port.contains(known)) {
                break port;
            }
        };
        let free = |known| (known, draw());
        let ports = [free("4004"), free("6379"), free("8900"), ("9101", port)];
        Self { directory, ports, servers: Vec::new(), _upstream: upstream }
    }

    /// Replaces the ports in `text` by those of this test.
    pub(super) fn on_free_ports(&self, text: &str) -> String {
        let ports = self.ports.iter();
        ports.fold(text.to_owned(), |text, (known, free)| text.replace(known, free))
    }

    /// Returns a new terminal.
    #[expect(clippy::disallowed_methods, reason = "the programs of this machine are found by it")]
    fn shell(&self) -> Command {
        let home = self.directory.path();
        let path = std::env::var("PATH").expect("a PATH");
        let mut shell = Command::new("bash");
        shell
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("PATH", format!("{}:{path}", home.display()))
            .env("CAUSEWAY_BIND", self.on_free_ports("127.0.0.1:4004"))
            .env("CAUSEWAY_CLIENT_URL", self.on_free_ports("http://127.0.0.1:4004"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        shell
    }

    /// Starts a server in a terminal of its own, and waits until it is ready; returns its output.
    pub(super) async fn serve(&mut self, block: &Block) -> String {
        let text = self.on_free_ports(&block.text);
        let mut server = Terminal::of(self.shell().args(["-c", &text]).spawn().expect("bash"));
        let printed = server.ready(block).await;
        self.servers.push(server);
        printed
    }
}

impl Terminal {
    fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// Waits until the server is ready; returns its output.
    async fn ready(&mut self, block: &Block) -> String {
        let mut printed = String::new();
        let last = READY.iter().find(|(command, _)| block.text.contains(command));
        let last = last.map_or(TRY, |(_, line)| line);
        loop {
            let line = soon("a ready server", self.lines.next_line()).await.expect("its output");
            let line = line.unwrap_or_else(|| panic!("{}: it has ended", block.place));
            eprintln!("server| {line}");
            printed.push_str(&line);
            printed.push('\n');
            if line.contains(last) {
                return printed;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            kill_process(id, signal).ok();
        }
    }

    /// Interrupts the server, as Ctrl-C does, and waits for its end.
    pub(super) async fn end(mut self) {
        self.signal(Signal::INT);
        while soon("the end of a server", self.lines.next_line()).await.is_ok_and(|l| l.is_some()) {
        }
        soon("the end of a server", self.child.wait()).await.expect("it can be waited for");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The terminal into which commands are pasted.
pub(super) struct Prompt {
    shell: Terminal,
    input: ChildStdin,
}

impl Prompt {
    pub(super) async fn open(reader: &Reader) -> Self {
        let mut shell = reader.shell().stdin(Stdio::piped()).spawn().expect("bash");
        let mut input = shell.stdin.take().expect("its input");
        // A terminal shows standard output and standard error.
        let trap = format!("exec 2>&1; trap 'echo \"{FAILED}: $BASH_COMMAND\"' ERR\n");
        input.write_all(trap.as_bytes()).await.expect("a shell that reads");
        Self { shell: Terminal::of(shell), input }
    }

    /// Pastes commands; returns the output, in which [`FAILED`] names each failed command.
    pub(super) async fn paste(&mut self, text: &str) -> String {
        let text = format!("{text}\nprintf '\\n{DONE}\\n'\n");
        self.input.write_all(text.as_bytes()).await.expect("a shell that reads");
        let mut printed = String::new();
        loop {
            let line = timeout(PATIENCE, self.shell.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("these commands do not end:\n{text}"));
            let line = line.expect("its output").expect("a shell that goes on");
            if line == DONE {
                return printed;
            }
            eprintln!("{line}");
            printed.push_str(&line);
            printed.push('\n');
        }
    }
}
