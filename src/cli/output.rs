//! Writing to the terminal. A reader that has gone away (`billsync … | head`) ends the output, not with an error.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use chrono::{DateTime, Utc};
use comfy_table::{Table, TableComponent, presets};
use serde::Serialize;

/// Writes text and a line's end to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
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
    table.set_header(headings.to_vec());
    table
}

/// An instant as people read it, in UTC; nothing for none.
pub fn time(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}
