//! Tables for terminals.

use std::io::{self, Write};

use serde_json::Value;

/// Writes rows under their headings; each column is as wide as its widest cell.
///
/// # Errors
/// If `out` is closed.
pub(crate) fn write<const N: usize>(
    headings: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        // Trailing blanks would wrap long rows in a narrow terminal.
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Returns the text of a cell without control characters: a client may have put them into a name,
/// and they must not reach the terminal.
pub(crate) fn word(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
