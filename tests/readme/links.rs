//! The links and the pages of the documents.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::PAGES;

/// The Markdown files of the directories of documents.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = fs::read_dir(root.join("bench")).expect("bench/").flatten().map(|e| e.path());
    let directories = [root.to_owned(), root.join("docs")].into_iter().chain(bench);
    let files = directories.flat_map(|directory| fs::read_dir(directory).into_iter().flatten());
    let files = files.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|name| name == "md")).collect()
}

/// `text` without blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```").step_by(2).flat_map(str::lines)
}

/// The names by which links reach the headings of `text`, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings.map(|line| line.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_inside_the_tree_resolves() {
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        let links = prose(&text).flat_map(|line| line.split("](").skip(1));
        let links = links.filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().expect("a directory").join(file);
            let target = if file.is_empty() { path.clone() } else { target };
            assert!(target.exists(), "{}: no such file: {link}", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).expect("a document"));
                let is_known = anchors.iter().any(|known| known == anchor);
                assert!(is_known, "{}: no such heading: {link}", path.display());
            }
        }
    }
}

#[test]
fn every_page_of_docs_is_tried() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let found = documents().into_iter().filter(|path| path.parent() == Some(&docs)).count();
    assert_eq!(found, PAGES.len() - 1);
}
