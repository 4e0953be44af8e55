//! Writing to the terminal. A reader that has gone away (`billsync … | head`) ends the output, not with an error.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

/// How wide a table may be in a file or a pipe.
const PAGE_COLUMNS: u16 = 180;
/// On a narrower terminal a table wraps rather than squeezes.
const LEAST_COLUMNS: u16 = 80;

/// Writes text and a line's end to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    // Tables fill their last column with blanks, which wrap on a narrow terminal.
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    match writeln!(stdout, "{}", lines.join("\n")).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a value as indented JSON to standard output.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value).context("cannot write the answer as JSON")?)
}

/// Writes a line to the error stream; what cannot be written there has no better place.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A table with the given headings and a line below them.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_style(TableComponent::HeaderLines, '─');
    // One long value would otherwise push every other line's columns out of sight.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width());
    table.set_header(headings.to_vec());
    table
}

/// The terminal's width, or that of a page where nobody looks on.
fn width() -> u16 {
    let stdout = std::io::stdout();
    let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
    columns.filter(|&columns| columns > 0).map_or(PAGE_COLUMNS, |columns| columns.max(LEAST_COLUMNS))
}

/// An instant as people read it, in UTC; nothing for none.
pub fn time(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}
