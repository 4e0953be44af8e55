//! What a replay would do: the outcome and the changed columns of each event, told and undone.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::cli::inspect::effect_lines;
use crate::cli::output::{print, print_json};
use crate::cli::replay::source::{EventSource, Found};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::domain::rules::Rules;
use crate::ingest::transaction::preview;
use crate::store::Store;

/// They are tried in one transaction, whose locks others wait for.
pub const MOST_EVENTS: usize = 1000;

#[derive(Debug, Serialize)]
struct Line {
    at: String,
    event_id: Option<String>,
    event_type: Option<String>,
    /// `refused`: it is no event.
    outcome: &'static str,
    reason: Option<String>,
    effects: Value,
}

/// Prints what each event would do after those before it. Returns whether none was refused or would fail.
pub async fn show(store: &Store, source: &mut EventSource<'_>, rules: &Rules, json: bool) -> anyhow::Result<bool> {
    let mut found: Vec<Found> = Vec::new();
    loop {
        let part = source.next_part().await?;
        if part.is_empty() {
            break;
        }
        found.extend(part);
    }
    ensure!(found.len() <= MOST_EVENTS, "{} events are too many to try: at most {MOST_EVENTS}; narrow the choice", found.len());
    let lines = try_all(store, found, rules).await?;
    if json {
        print_json(&lines)?;
    } else {
        print(&lines.iter().map(to_text).collect::<String>())?;
        print(&format!("\n{} events, nothing was written", lines.len()))?;
    }
    Ok(lines.iter().all(|line| !matches!(line.outcome, "failed" | "refused")))
}

async fn try_all(store: &Store, found: Vec<Found>, rules: &Rules) -> anyhow::Result<Vec<Line>> {
    let events: Vec<Arc<Event>> = found.iter().filter_map(|found| found.event.as_ref().ok().cloned().map(Arc::new)).collect();
    let previews = if events.is_empty() { Vec::new() } else { preview(store, &events, rules, &Clock::System).await? };
    let mut previews = previews.into_iter();
    let mut lines = Vec::with_capacity(found.len());
    for Found { at, event } in found {
        lines.push(match event {
            Err(reason) => {
                Line { at, event_id: None, event_type: None, outcome: "refused", reason: Some(reason), effects: Value::Null }
            }
            Ok(event) => {
                let preview = previews.next().context("an event was not tried")?;
                Line {
                    at,
                    event_id: Some(event.id),
                    event_type: Some(event.event_type),
                    outcome: preview.receipt.outcome.as_str(),
                    reason: preview.receipt.reason,
                    effects: serde_json::to_value(&preview.effects)?,
                }
            }
        });
    }
    Ok(lines)
}

fn to_text(line: &Line) -> String {
    let reason = line.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (event_type, event_id) = (line.event_type.as_deref().unwrap_or_default(), line.event_id.as_deref().unwrap_or(&line.at));
    let mut text = format!("{event_type} {event_id}: {}{reason}\n", line.outcome).trim_start().to_owned();
    for effect in effect_lines(Some(&line.effects)) {
        text.push_str(&format!("    {effect}\n"));
    }
    text
}
