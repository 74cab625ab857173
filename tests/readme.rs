//! The commands of README.md, pasted in order into fresh shells.
//!
//! A comment before a block of commands says how it is run: `<!-- test: MARK -->`. `server`: in a terminal of its
//! own, where it stays; `restart`: the same, after all servers have ended; `fails`: a command in it fails; `varies`:
//! its output differs from run to run; `skip, REASON`: not at all. Only ports are replaced, and `cargo run --release`
//! runs the binary of these tests.
//!
//! A block of text behind commands is their output, where `…` stands for anything. It is compared without blanks,
//! numbers and random names.

mod block;
mod links;
mod terminal;

use self::{
    block::{Block, Mark, mark},
    terminal::{FAILED, Prompt, Reader},
};

/// A page with commands.
#[derive(Debug, Clone, Copy)]
struct Page {
    path: &'static str,
    text: &'static str,
}

/// Lists the pages, and makes a test of each.
macro_rules! pages {
    ($($test:ident: $path:literal,)+) => {
        const PAGES: &[Page] = &[$(Page { path: $path, text: include_str!(concat!("../", $path)) }),+];

/// Why blocks are skipped. A new reason is a decision.
const SKIPPED: [&str; 5] = [
    "runs this test",
    "needs Docker",
    "downloads a model",
    "needs a key of OpenAI",
    "needs the Python package websockets",
];

/// The last line that a server prints before it is ready, by a part of its command; the others end with [`TRY`].
const READY: [(&str, &str); 3] = [
    ("causeway worker", "  worker    2"),
    ("redis-server", "Ready to accept connections"),
    ("HTTPServer", "a receiver is ready"),
];

/// The last line of a server with an API.
const TRY: &str = "  try ";

/// How long the commands of one block may be silent: the experiment takes 20 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// The line behind each pasted block.
const DONE: &str = "=== done";

/// The line of a failed command.
const FAILED: &str = "=== failed";

/// How a block is run.
#[derive(Debug, PartialEq, Eq)]
enum Mark {
    Paste,
    Server,
    Restart,
    Fails,
    Varies,
    Skip(&'static str),
}

/// A block of commands.
#[derive(Debug)]
struct Block {
    /// The line of its first command.
    line: usize,
    mark: Mark,
    text: String,
    /// The output that the page shows; empty if it shows none.
    shown: String,
}

impl Block {
    /// Compares what the page shows with what was printed; returns the difference.
    fn differs(&self, printed: &str) -> Option<String> {
        let found = comparable(printed);
        let mut rest = found.as_str();
        for part in comparable(&self.shown).split('…') {
            let Some((_, behind)) = rest.split_once(part) else {
                let line = self.line;
                return Some(format!("README.md:{line} shows {part}\nprinted was {printed}"));
            };
            rest = behind;
        }
        None
    }
}

/// `text` without blanks, with `0` for each number and `*` for each random name.
fn comparable(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end.max(first.len_utf8()));
        rest = behind;
        if word.len() == 26 || word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit()) {
            out.push('*');
        } else if !word.trim().is_empty() {
            out.push_str(&without_numbers(word));
        }
    }
    while out.contains("0.0") {
        out = out.replace("0.0", "0");
    }
    // A submitted job may have started meanwhile.
    out.replace(r#""status":"running""#, r#""status":"queued""#)
}

/// `word` with `0` for each run of digits.
fn without_numbers(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if c != '0' || !out.ends_with('0') {
            out.push(c);
        }
    }
    out
}

fn mark(line: &'static str) -> Option<Mark> {
    let text = line.strip_prefix("<!-- test: ")?.strip_suffix(" -->").expect("a whole comment");
    Some(match text.split_once(", ") {
        None if text == "server" => Mark::Server,
        None if text == "restart" => Mark::Restart,
        None if text == "fails" => Mark::Fails,
        None if text == "varies" => Mark::Varies,
        Some(("skip", reason)) => Mark::Skip(reason),
        _ => panic!("no such mark: {text}"),
    })
}

/// The blocks of commands in README.md.
fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut next = None;
    let mut lines = README.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        next = mark(line).or(next);
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|(_, line)| *line != "```");
            let inside: Vec<(usize, &str)> = inside.collect();
            let text = inside.iter().map(|(_, line)| format!("{line}\n")).collect();
            if language == "sh" {
                let (line, mark) = (inside[0].0 + 1, next.take().unwrap_or(Mark::Paste));
                blocks.push(Block { line, mark, text, shown: String::new() });
            } else if language == "text" {
                blocks.last_mut().expect("commands before their output").shown = text;
            }
        }
    }
    assert_eq!(next, None, "a mark without commands");
    blocks
}

/// A reader of README.md: programs, settings and servers.
struct Reader {
    directory: tempfile::TempDir,
    ports: [(&'static str, String); 4],
    servers: Vec<Terminal>,
    _upstream: Upstream,
}

/// A shell, or the server that has replaced it: bash executes a single command in its own place. Ended with this.
struct Terminal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    async fn new() -> Self {
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
        // A refusal is a failure of the command.
        fs::write(directory.path().join(".curlrc"), "fail-with-body\nno-progress-meter\n")
            .expect("a file");
        let upstream = Upstream::echo().await;
        let url = upstream.url();
        let port = url.trim_end_matches("/v1").rsplit(':').next().expect("a port").to_owned();
        let free = |known| (known, free_port().to_string());
        let ports = [free("4004"), free("6379"), free("8900"), ("9101", port)];
        Self { directory, ports, servers: Vec::new(), _upstream: upstream }
    }

    /// `text` with the ports of this test.
    fn on_free_ports(&self, text: &str) -> String {
        let ports = self.ports.iter();
        ports.fold(text.to_owned(), |text, (known, free)| text.replace(known, free))
    }

    /// A new terminal.
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

    /// Starts a server in a terminal of its own, and waits until it is ready; returns what it has printed.
    async fn serve(&mut self, block: &Block) -> String {
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

    /// Waits until it is ready; returns what it has printed.
    async fn ready(&mut self, block: &Block) -> String {
        let mut printed = String::new();
        let last = READY.iter().find(|(command, _)| block.text.contains(command));
        let last = last.map_or(TRY, |(_, line)| line);
        loop {
            let line = soon("a ready server", self.lines.next_line()).await.expect("its output");
            let line = line.unwrap_or_else(|| panic!("README.md:{}: it has ended", block.line));
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

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    async fn end(mut self) {
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

/// The terminal that commands are pasted into.
struct Prompt {
    shell: Terminal,
    input: ChildStdin,
}

impl Prompt {
    async fn open(reader: &Reader) -> Self {
        let mut shell = reader.shell().stdin(Stdio::piped()).spawn().expect("bash");
        let mut input = shell.stdin.take().expect("its input");
        // A terminal shows both outputs.
        let trap = format!("exec 2>&1; trap 'echo \"{FAILED}: $BASH_COMMAND\"' ERR\n");
        input.write_all(trap.as_bytes()).await.expect("a shell that reads");
        Self { shell: Terminal::of(shell), input }
    }

    /// Pastes commands; returns the output, in which [`FAILED`] names each command that failed.
    async fn paste(&mut self, text: &str) -> String {
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

#[tokio::test]
async fn the_commands_of_the_readme_work_in_order() {
    let mut reader = Reader::new().await;
    let mut prompt = Prompt::open(&reader).await;
    let (mut skipped, mut differences) = (Vec::new(), Vec::new());
    for block in blocks() {
        eprintln!("README.md:{} {:?}\n{}", block.line, block.mark, block.text);
        match block.mark {
            Mark::Skip(reason) => skipped.push(reason),
            Mark::Server => differences.extend(block.differs(&reader.serve(&block).await)),
            Mark::Restart => {
                while let Some(server) = reader.servers.pop() {
                    server.end().await;
                }
                differences.extend(block.differs(&reader.serve(&block).await));
            }
            Mark::Paste | Mark::Fails | Mark::Varies => {
                let printed = prompt.paste(&reader.on_free_ports(&block.text)).await;
                let has_failed = printed.contains(FAILED);
                assert_eq!(
                    has_failed,
                    block.mark == Mark::Fails,
                    "README.md:{}: {printed}",
                    block.line
                );
                if block.mark != Mark::Varies {
                    differences.extend(block.differs(&printed));
                }
            }
        }
        assert_eq!(next, None, "{}: a mark without commands", self.path);
        blocks
    }

    /// Pastes all commands in order.
    async fn works(self) {
        let mut reader = Reader::new().await;
        let mut prompt = Prompt::open(&reader).await;
        let mut differences = Vec::new();
        for block in self.blocks() {
            eprintln!("{} {:?}\n{}", block.place, block.mark, block.text);
            match block.mark {
                Mark::Skip(_) => {}
                Mark::Server => differences.extend(block.differs(&reader.serve(&block).await)),
                Mark::Restart => {
                    while let Some(server) = reader.servers.pop() {
                        server.end().await;
                    }
                    differences.extend(block.differs(&reader.serve(&block).await));
                }
                Mark::Paste | Mark::Fails | Mark::Varies => {
                    let printed = prompt.paste(&reader.on_free_ports(&block.text)).await;
                    let has_failed = printed.contains(FAILED);
                    assert_eq!(has_failed, block.mark == Mark::Fails, "{}: {printed}", block.place);
                    if block.mark != Mark::Varies {
                        differences.extend(block.differs(&printed));
                    }
                }
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

#[test]
fn every_command_of_the_readme_is_in_a_block_of_commands() {
    let commands = ["cargo ", "causeway ", "curl ", "docker ", "make ", "redis-server ", "$ "];
    for Page { path, text } in PAGES {
        for (index, line) in text.lines().enumerate() {
            let is_code = line.starts_with("    ");
            let is_command = commands.iter().any(|command| line.trim_start().starts_with(command));
            assert!(!(is_code && is_command), "{path}:{}: not in a block of sh: {line}", index + 1);
        }
    }
}
