//! One user as a person reads it at three in the morning: the rows with the event that set each column, the facts that they
//! follow from, and the events with what each changed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::output::{table, time};
use crate::store::{Profile, Setter, Store, StoredFact, TimelineEntry};

/// Columns that identify a row rather than tell something.
const SILENT_COLUMNS: [&str; 4] = ["id", "user_id", "created_at", "updated_at"];

/// Everything stored about a user.
#[derive(Debug, Serialize)]
pub struct UserReport {
    pub profile: Profile,
    /// The user's own id and its customers, each with what linked it.
    pub owners: Vec<OwnerLine>,
    pub facts: Vec<StoredFact>,
    /// Oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// `table.column` → the event that set it last.
    pub set_by: BTreeMap<String, SetBy>,
    /// Whether there is more than the limit let through.
    pub is_cut: bool,
}

/// An id that the user's events are about.
#[derive(Debug, Serialize)]
pub struct OwnerLine {
    pub owner_id: String,
    pub linked_by: Option<String>,
}

/// An event that set a column.
pub type SetBy = Setter;

impl UserReport {
    /// Reads everything about the user; at most `limit` facts and events, the newest.
    pub async fn read(store: &Store, clerk_id: &str, limit: i64) -> anyhow::Result<UserReport> {
        let profile = store.find_profile(clerk_id).await?.context("no such user")?;
        let owners = store.list_owner_ids(clerk_id).await?;
        let ids: Vec<String> = owners.iter().map(|(id, _)| id.clone()).collect();
        let facts = store.list_facts(&ids, limit).await?;
        let mut timeline = store.list_timeline(&ids, limit).await?;
        // Within one instant of the providers' clocks, in the order in which they came.
        timeline.sort_by_key(|entry| (entry.occurred_at, entry.received_at));
        let set_by = list_setters(store, &ids, &profile.user_id, None).await?;
        let is_cut = [facts.len(), timeline.len()].iter().any(|&shown| i64::try_from(shown).is_ok_and(|shown| shown >= limit));
        let owners = owners.into_iter().map(|(owner_id, linked_by)| OwnerLine { owner_id, linked_by }).collect();
        Ok(UserReport { profile, owners, facts, timeline, set_by, is_cut })
    }

    /// The report as text.
    pub fn to_text(&self) -> String {
        [self.heading(), self.rows(), self.facts_text(), self.timeline_text()].join("\n")
    }

    fn heading(&self) -> String {
        let of = |column: &str| self.profile.users.get(column).and_then(Value::as_str).unwrap_or_default();
        let mut text = format!("{} <{}>  {}\n", of("full_name"), of("email"), self.profile.user_id);
        for owner in &self.owners {
            if let Some(linked_by) = &owner.linked_by {
                text.push_str(&format!("customer {}, linked by {linked_by}\n", owner.owner_id));
            }
        }
        text
    }

    fn rows(&self) -> String {
        let tables = [
            ("users", Some(&self.profile.users)),
            ("user_subscriptions", self.profile.user_subscriptions.as_ref()),
            ("user_billing", self.profile.user_billing.as_ref()),
            ("user_usage", self.profile.user_usage.as_ref()),
            ("user_system_data", self.profile.user_system_data.as_ref()),
        ];
        rows_text(tables.map(|(name, row)| (name, row.cloned().unwrap_or_default())), &self.set_by)
    }

    fn facts_text(&self) -> String {
        let mut text = "Facts: the objects as they were last described\n".to_owned();
        for fact in &self.facts {
            text.push_str(&format!("\n{} {} {}", fact.provider, fact.object_type, fact.object_id));
            if let Some(as_of) = fact.as_of {
                text.push_str(&format!("  as of {}", time(Some(as_of))));
            }
            if let Some(event_id) = &fact.event_id {
                text.push_str(&format!(", from {event_id}"));
            }
            if let Some(deleted_at) = fact.deleted_at {
                text.push_str(&format!(", deleted {}", time(Some(deleted_at))));
            }
            if fact.ambiguous {
                text.push_str(", ambiguous: snapshots of one second contradict each other");
            }
            text.push_str(&format!("\n    {}\n", fact.fact.as_ref().map(say).unwrap_or_default()));
        }
        text
    }

    fn timeline_text(&self) -> String {
        let mut text = "Timeline, by the providers' clocks (UTC)\n".to_owned();
        for entry in &self.timeline {
            let reason = entry.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            text.push_str(&format!(
                "\n{}  {}  {}  {}{reason}\n",
                time(Some(entry.occurred_at)),
                entry.event_type,
                entry.event_id,
                entry.outcome
            ));
            for line in effect_lines(entry.effects.as_ref()) {
                text.push_str(&format!("    {line}\n"));
            }
        }
        if self.is_cut {
            text.push_str("\nThere are older events or more facts than are shown: raise --limit.\n");
        }
        text
    }
}

/// The last event that changed each column of the user, among all that were received, or were until then.
pub async fn list_setters(
    store: &Store,
    owner_ids: &[String],
    clerk_id: &str,
    until: Option<DateTime<Utc>>,
) -> anyhow::Result<BTreeMap<String, SetBy>> {
    let setters = store.list_setters(owner_ids, clerk_id, until).await?;
    Ok(setters.into_iter().map(|setter| (format!("{}.{}", setter.table_name, setter.column_name), setter)).collect())
}

/// A table for each row: its columns, their values, and what set them.
pub fn rows_text<'a>(rows: impl IntoIterator<Item = (&'a str, Value)>, set_by: &BTreeMap<String, SetBy>) -> String {
    let mut text = String::new();
    for (name, row) in rows {
        let mut table = table(&[name, "value", "set by"]);
        for (column, value) in columns(&row) {
            let set_by = set_by.get(&format!("{name}.{column}"));
            let event = set_by.map(|by| format!("{} {}", by.event_type, by.event_id)).unwrap_or_default();
            table.add_row([column, &show_lines(value), &event]);
        }
        text.push_str(&format!("{table}\n\n"));
    }
    text
}

/// What an event changed: `user_subscriptions.current_plan: free -> glow_up`, one line a column, or one an entry where the
/// column holds an object.
pub fn effect_lines(all: Option<&Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for effect in effects(all) {
        let name = format!("{}.{}", field(effect, "table"), field(effect, "column"));
        let (old, new) = (effect.get("old").unwrap_or(&Value::Null), effect.get("new").unwrap_or(&Value::Null));
        match (old, new) {
            (Value::Null | Value::Object(_), Value::Object(new)) => {
                let nothing = Map::new();
                let old = old.as_object().unwrap_or(&nothing);
                let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
                    lines.push(format!("{name} {key}: {} -> {}", show_entry(old.get(key)), show_entry(new.get(key))));
                }
            }
            _ => lines.push(format!("{name}: {} -> {}", show(old), show(new))),
        }
    }
    lines
}

fn show_entry(value: Option<&Value>) -> String {
    match value {
        Some(entry @ Value::Object(_)) => say(entry),
        other => show(other.unwrap_or(&Value::Null)),
    }
}

fn effects(all: Option<&Value>) -> impl Iterator<Item = &Value> {
    all.and_then(Value::as_array).into_iter().flatten()
}

fn field<'a>(effect: &'a Value, name: &str) -> &'a str {
    effect.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn columns(row: &Value) -> impl Iterator<Item = (&String, &Value)> {
    row.as_object().into_iter().flatten().filter(|(column, _)| !SILENT_COLUMNS.contains(&column.as_str()))
}

/// A value in a line: instants without fraction and offset, nothing as a dash.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => match text.parse::<DateTime<Utc>>() {
            Ok(at) => time(Some(at)),
            Err(_) => text.clone(),
        },
        other => other.to_string(),
    }
}

/// A cell: an object has a line for every entry.
fn show_lines(value: &Value) -> String {
    match value.as_object() {
        Some(entries) if !entries.is_empty() => {
            let lines = entries.iter().map(|(name, entry)| format!("{name}: {}", show_entry(Some(entry))));
            lines.collect::<Vec<String>>().join("\n")
        }
        _ => show(value),
    }
}

/// An object in a line, its status first.
fn say(fact: &Value) -> String {
    let nothing = Map::new();
    let fields = fact.as_object().unwrap_or(&nothing);
    let mut shown: Vec<(&String, &Value)> = fields.iter().filter(|(name, value)| *name != "type" && !value.is_null()).collect();
    shown.sort_by_key(|(name, _)| *name != "status");
    shown.into_iter().map(|(name, value)| format!("{name} {}", show(value))).collect::<Vec<String>>().join(", ")
}
