//! Blocks of commands, and the comparison of their output with the page.

/// The way in which a block runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Paste,
    Server,
    Restart,
    Fails,
    Varies,
    Skip(&'static str),
}

/// A block of commands.
#[derive(Debug)]
pub(super) struct Block {
    /// The page and the line of its first command.
    pub(super) place: String,
    pub(super) mark: Mark,
    pub(super) text: String,
    /// The output that the page shows; empty if it shows none.
    pub(super) shown: String,
}

impl Block {
    /// Compares the shown with the printed output; returns the difference.
    pub(super) fn differs(&self, printed: &str) -> Option<String> {
        let found = comparable(printed);
        let mut rest = found.as_str();
        for part in comparable(&self.shown).split('…') {
            let Some((_, behind)) = rest.split_once(part) else {
                let place = &self.place;
                return Some(format!("{place} shows {part}\nprinted was {printed}"));
            };
            rest = behind;
        }
        None
    }
}

/// Normalizes `text`: no blanks, `0` for each number, and `*` for each random name.
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
    // A submitted job may have started in the meantime.
    out.replace(r#""status":"running""#, r#""status":"queued""#)
}

/// Replaces each run of digits in `word` by `0`.
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

pub(super) fn mark(line: &'static str) -> Option<Mark> {
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
