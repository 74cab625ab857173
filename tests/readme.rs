//! Runs the commands of README.md and of each page of docs/ in order, pasted into shells of the page's own.
//!
//! A comment before a block of commands says how it runs: `<!-- test: MARK -->`. `server`: in a
//! terminal of its own, which stays open; `restart`: the same, after all servers have ended;
//! `fails`: one of its commands fails; `varies`: its output differs from run to run; `skip,
//! REASON`: not at all. Only ports are replaced, and `cargo run --release` runs the binary of these
//! tests.
//!
//! A block of text after commands is their output, in which `…` matches anything. Blanks, numbers
//! and random names are not compared.

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

        $(
            #[tokio::test]
            async fn $test() {
                Page { path: $path, text: include_str!(concat!("../", $path)) }.works().await;
            }
        )+
    };
}

pages! {
    readme_works: "README.md",
    command_line_works: "docs/command-line.md",
    concepts_work: "docs/concepts.md",
    configuration_works: "docs/configuration.md",
    decisions_work: "docs/decisions.md",
    http_api_works: "docs/http-api.md",
    operations_work: "docs/operations.md",
    redis_works: "docs/redis.md",
    resharding_works: "docs/resharding.md",
    tenants_and_fairness_work: "docs/tenants-and-fairness.md",
    upstreams_work: "docs/upstreams.md",
    webhooks_work: "docs/webhooks.md",
    websocket_works: "docs/websocket.md",
}

/// The permitted reasons to skip a block, in the order of the pages. A new reason is a decision.
const SKIPPED: [&str; 5] = [
    "runs this test",
    "needs Docker",
    "downloads a model",
    "needs a key of OpenAI",
    "needs the Python package websockets",
];

impl Page {
    /// The blocks of commands.
    fn blocks(self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut next = None;
        let mut lines = self.text.lines().enumerate();
        while let Some((_, line)) = lines.next() {
            next = mark(line).or(next);
            if let Some(language) = line.strip_prefix("```") {
                let inside = lines.by_ref().take_while(|(_, line)| *line != "```");
                let inside: Vec<(usize, &str)> = inside.collect();
                let text = inside.iter().map(|(_, line)| format!("{line}\n")).collect();
                if language == "sh" {
                    let mark = next.take().unwrap_or(Mark::Paste);
                    let place = format!("{}:{}", self.path, inside[0].0 + 1);
                    blocks.push(Block { place, mark, text, shown: String::new() });
                } else if language == "text"
                    && let Some(block) = blocks.last_mut()
                {
                    block.shown = text;
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
fn every_skipped_block_has_a_known_reason() {
    let blocks = PAGES.iter().flat_map(|page| page.blocks());
    let skipped = blocks.filter_map(|block| match block.mark {
        Mark::Skip(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(skipped.collect::<Vec<_>>(), SKIPPED);
}

#[test]
fn every_command_is_in_a_block_of_commands() {
    let commands = ["cargo ", "causeway ", "curl ", "docker ", "make ", "redis-server ", "$ "];
    for Page { path, text } in PAGES {
        for (index, line) in text.lines().enumerate() {
            let is_code = line.starts_with("    ");
            let is_command = commands.iter().any(|command| line.trim_start().starts_with(command));
            assert!(!(is_code && is_command), "{path}:{}: not in a block of sh: {line}", index + 1);
        }
    }
}

/// `cargo run` passes the variables of the build script on to the program, which refuses unknown settings.
#[test]
fn the_build_script_sets_no_setting() {
    assert!(!include_str!("../build.rs").contains("rustc-env=CAUSEWAY_"));
}
