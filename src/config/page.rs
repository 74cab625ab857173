//! The tables of docs/configuration.md, made of the doc comments of the settings.

use std::{fs, path::Path};

use figment::{Profile, Provider as _, providers::Serialized};

use super::{
    Config,
    keys::{self, Keys},
};

/// Behind this line the page is generated.
const MARK: &str = "<!-- Generated from the doc comments of the settings: CAUSEWAY_WRITE_DOCS=1 rewrites it. -->\n";

/// Each section: its name in the file, the source of its settings, and a part of their struct's name there.
const SECTIONS: [(&str, &str, &str); 11] = [
    ("", include_str!("top_level.rs"), "Config"),
    ("[log]", include_str!("sections.rs"), "Log"),
    ("[api]", include_str!("sections.rs"), "Api"),
    ("[bridge]", include_str!("sections.rs"), "Bridge"),
    ("[timeouts]", include_str!("sections.rs"), "Timeouts"),
    ("[retry]", include_str!("sections.rs"), "Retry"),
    ("[simulated]", include_str!("sections.rs"), "Simulated"),
    ("[webhooks]", include_str!("webhooks.rs"), "Webhooks"),
    ("[client]", include_str!("sections.rs"), "Client"),
    ("[[tenant]]", include_str!("tenant.rs"), "Tenant"),
    ("[[lane]]", include_str!("lane.rs"), "Lane"),
];

/// The heading and the table of one section.
fn section((name, source, of): (&str, &str, &str)) -> String {
    let is_head =
        |line: &&str| line.contains("struct ") && line.contains(of) && line.ends_with('{');
    let head = source.lines().find(is_head).expect("a struct");
    let (before, fields) = source.split_once(head).expect("its fields");
    let lines = before.lines().rev().skip_while(|line| !line.starts_with("///"));
    let lines = lines.map_while(|line| line.strip_prefix("/// "));
    let intro = lines.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ");
    let (mut rows, mut words, mut is_skipped) = (Vec::new(), String::new(), false);
    for line in fields.lines().skip(1).map(str::trim).take_while(|line| *line != "}") {
        if let Some(text) = line.strip_prefix("///") {
            words.push_str(text);
        } else if line.starts_with('#') {
            is_skipped |= line.contains("serde(skip)");
        } else {
            let words = std::mem::take(&mut words);
            if !std::mem::take(&mut is_skipped) && !words.starts_with(" See [") {
                rows.push(row(name, line, words.trim()));
            }
        }
    }
    let heading = match name {
        "" => "## Top level\n".to_owned(),
        _ => format!("## `{name}`\n\n{intro}\n"),
    };
    let head = "| key | meaning | default | set by |\n|---|---|---|---|\n";
    format!("\n{heading}\n{head}{}", rows.concat())
}

/// The row of the field in `line`.
fn row(section: &str, line: &str, words: &str) -> String {
    let key = line.split(':').next().and_then(|left| left.split(' ').next_back()).expect("a field");
    let table = section.trim_matches(['[', ']']);
    let dotted = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
    let flag = words.split_once("`--").and_then(|(_, behind)| behind.split('`').next());
    let flag = flag.map(|flag| format!("`--{flag}`, ")).unwrap_or_default();
    let names = [" Flag", " Variable", " `--", " `CAUSEWAY_"];
    let end = names.iter().filter_map(|name| words.find(name)).min().unwrap_or(words.len());
    let (words, _) = words.split_at(end);
    let (meaning, default) = words.split_once("Default").unwrap_or((words, ""));
    let default = default.trim_start_matches(':').trim().trim_end_matches('.');
    let by = if section.starts_with("[[") {
        "file".to_owned()
    } else {
        format!("{flag}`{}`", keys::variable(&dotted))
    };
    format!("| `{key}` | {} | {default} | {by} |\n", meaning.trim())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of this test is no setting")]
fn the_page_lists_the_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (written, _) = page.split_once(MARK).expect("a mark");
    let right = format!("{written}{MARK}{}", SECTIONS.map(section).concat());
    let is_rewritten = std::env::var("CAUSEWAY_WRITE_DOCS").is_ok();
    if is_rewritten {
        fs::write(&path, &right).expect("the page");
    }
    let hint = "docs/configuration.md is out of date: run this test with CAUSEWAY_WRITE_DOCS=1";
    assert!(is_rewritten || page == right, "{hint}");
    let defaults = Serialized::defaults(Config::default()).data().expect("the defaults");
    for key in Keys::of(&defaults[&Profile::Default]).names() {
        let name = key.rsplit('.').next().unwrap_or(key);
        let is_listed =
            right.contains(&format!("| `{name}` |")) || right.contains(&format!("[[{name}]]"));
        assert!(is_listed, "{key} is not on the page");
    }
}
