//! One event as a person reads it.

use serde_json::{Value, json};

use crate::cli::inspect::user_report::effect_lines;
use crate::cli::output::time;
use crate::store::EventDetail;

/// The event with its payload as JSON.
pub fn to_json(event: &EventDetail) -> Value {
    let payload = event.payload.as_deref().map(read_payload);
    let mut value = json!(event);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("payload".into(), payload.unwrap_or_default());
    }
    value
}

/// The event as text: what it is, what became of it, what it changed, what it said.
pub fn to_text(event: &EventDetail) -> String {
    let entry = &event.entry;
    let mode = match event.livemode {
        Some(true) => "live",
        Some(false) => "test",
        None => "",
    };
    let lines = [
        ("event", format!("{} {}", entry.provider, entry.event_id)),
        ("type", entry.event_type.clone()),
        ("outcome", entry.outcome.clone()),
        ("reason", entry.reason.clone().unwrap_or_default()),
        ("object", entry.object_id.clone().unwrap_or_default()),
        ("owner", entry.owner_id.clone().unwrap_or_default()),
        ("occurred", time(Some(entry.occurred_at))),
        ("received", format!("{}, by {}", time(Some(entry.received_at)), entry.source)),
        ("API version", event.api_version.clone().unwrap_or_default()),
        ("mode", mode.to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<12}{value}\n"));
    }
    text.push_str("\nWhat it changed\n");
    let effects = effect_lines(entry.effects.as_ref());
    if effects.is_empty() {
        text.push_str("  nothing\n");
    }
    for line in effects {
        text.push_str(&format!("  {line}\n"));
    }
    let payload = event.payload.as_deref().map_or_else(
        || "  no longer kept".to_owned(),
        |payload| serde_json::to_string_pretty(&read_payload(payload)).unwrap_or_else(|_| payload.to_owned()),
    );
    text.push_str(&format!("\nPayload\n{payload}\n"));
    text
}

/// A payload that is no JSON for us (too deep) is shown as it is.
fn read_payload(payload: &str) -> Value {
    serde_json::from_str(payload).unwrap_or_else(|_| Value::String(payload.to_owned()))
}
