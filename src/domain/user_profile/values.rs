//! What a value of the old table says, whatever type its column has: a date may be a text, a number a string, a truth a "yes".

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use crate::domain::user_profile::{Mapping, Problem};

/// Width of `current_plan` and `intended_plan`.
const PLAN_WIDTH: usize = 50;
/// Longest id that an index takes.
const ID_WIDTH: usize = 255;

const STATUSES: [&str; 9] =
    ["none", "incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused"];

/// Texts that stand for nothing.
const NOTHING: [&str; 6] = ["null", "undefined", "n/a", "na", "-", "(null)"];

/// Reads a row's values and notes those that cannot be read.
pub(super) struct Reader<'a> {
    mapping: &'a Mapping,
    row: &'a Map<String, Value>,
    problems: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mapping: &'a Mapping, row: &'a Map<String, Value>) -> Reader<'a> {
        Reader { mapping, row, problems: BTreeMap::new() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_iter().map(|(column, reason)| Problem { column, reason }).collect()
    }

    fn value(&self, ours: &str) -> Option<&'a Value> {
        self.row.get(self.mapping.column(ours)?).filter(|value| !value.is_null())
    }

    /// Notes why a value is left out. The value itself is somebody's and is not told.
    fn refuse<T>(&mut self, ours: &str, reason: impl Into<String>) -> Option<T> {
        let column = self.mapping.column(ours).unwrap_or(ours).to_owned();
        self.problems.insert(column, reason.into());
        None
    }

    /// A text without blanks around it; `None` for an empty one.
    pub(super) fn text(&mut self, ours: &str) -> Option<String> {
        let text = match self.value(ours)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return self.refuse(ours, "is no text"),
        };
        let stands_for_nothing = NOTHING.contains(&text.to_lowercase().as_str());
        (!text.is_empty() && !stands_for_nothing).then_some(text)
    }

    pub(super) fn user_id(&mut self) -> Result<String, Problem> {
        let problem = |reader: &Self, reason: &str| Problem {
            column: reader.mapping.column("user_id").unwrap_or("user_id").to_owned(),
            reason: reason.to_owned(),
        };
        let Some(id) = self.text("user_id") else { return Err(problem(self, "there is no Clerk user id")) };
        if !id.starts_with("user_") || id.len() > ID_WIDTH || id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(problem(self, "is no Clerk user id (user_…)"));
        }
        Ok(id)
    }

    /// Something at something, without blanks: what an address has to be at least.
    pub(super) fn email(&mut self, ours: &str) -> Option<String> {
        let text = self.text(ours)?;
        let is_address = text.rsplit_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !name.contains('@') && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
        });
        if is_address && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Some(text);
        }
        self.refuse(ours, "is no e-mail address")
    }

    pub(super) fn full_name(&mut self) -> Option<String> {
        if let Some(name) = self.text("full_name") {
            return Some(name);
        }
        let parts: Vec<String> = ["first_name", "last_name"].into_iter().filter_map(|part| self.text(part)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    pub(super) fn short_text(&mut self, ours: &str, width: usize) -> Option<String> {
        let text = self.text(ours)?;
        if text.chars().count() > width {
            return self.refuse(ours, format!("is longer than {width} characters"));
        }
        Some(text)
    }

    /// An id of Stripe's.
    pub(super) fn id(&mut self, ours: &str, prefixes: &[&str]) -> Option<String> {
        let text = self.text(ours)?;
        let has_form = prefixes.iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix));
        if has_form && text.len() <= ID_WIDTH && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Some(text);
        }
        self.refuse(ours, format!("is no id of Stripe's ({}…)", prefixes.join("…, ")))
    }

    /// A plan by its key, also in another spelling. One that the catalog has not is kept, and told.
    pub(super) fn plan(&mut self, ours: &str, plan_keys: &[String]) -> Option<String> {
        let text = self.short_text(ours, PLAN_WIDTH)?;
        if text.eq_ignore_ascii_case("none") {
            return None;
        }
        let fold = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
        if let Some(key) = plan_keys.iter().find(|key| **key == text || fold(key) == fold(&text)) {
            return Some(key.clone());
        }
        let _: Option<()> =
            self.refuse(ours, "is kept, yet the plan catalog has no such plan: it grants what the free plan does");
        Some(text)
    }

    pub(super) fn subscription_status(&mut self) -> Option<String> {
        let text = self.short_text("subscription_status", ID_WIDTH)?.to_lowercase();
        let status = match text.as_str() {
            "cancelled" => "canceled".to_owned(),
            "trial" => "trialing".to_owned(),
            "inactive" => "none".to_owned(),
            _ => text,
        };
        if !STATUSES.contains(&status.as_str()) {
            let _: Option<()> = self.refuse("subscription_status", "is kept, yet Stripe has no such status");
        }
        Some(status)
    }

    pub(super) fn trial_status(&mut self) -> Option<String> {
        let text = self.text("trial_status")?.to_lowercase();
        Some(match text.as_str() {
            "pending" | "none" | "not_started" | "inactive" => "pending".to_owned(),
            "active" | "trialing" => "active".to_owned(),
            "converted" => "converted".to_owned(),
            "expired" | "ended" | "cancelled" | "canceled" => "expired".to_owned(),
            _ => return self.refuse("trial_status", "is none of pending, active, converted and expired"),
        })
    }

    pub(super) fn onboarding_step(&mut self) -> Option<String> {
        let is_completed = self.truth("onboarding_completed").unwrap_or_default();
        let Some(text) = self.text("onboarding_step") else { return is_completed.then(|| "completed".to_owned()) };
        Some(match text.to_lowercase().replace([' ', '_'], "-").as_str() {
            "completed" | "complete" | "done" | "true" => "completed".to_owned(),
            "pending" | "not-started" | "false" | "0" => "pending".to_owned(),
            "step-1" | "step1" | "1" => "step-1".to_owned(),
            "step-2" | "step2" | "2" => "step-2".to_owned(),
            _ => return self.refuse("onboarding_step", "is none of pending, step-1, step-2 and completed"),
        })
    }

    pub(super) fn truth(&mut self, ours: &str) -> Option<bool> {
        match self.text(ours)?.to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "on" => Some(true),
            "false" | "f" | "no" | "n" | "0" | "off" => Some(false),
            _ => self.refuse(ours, "is neither true nor false"),
        }
    }

    /// A whole number, also `12.0`.
    pub(super) fn whole(&mut self, ours: &str, range: RangeInclusive<i32>) -> Option<i32> {
        let text = self.text(ours)?;
        let digits = text
            .split_once('.')
            .map_or(text.as_str(), |(whole, rest)| if rest.chars().all(|c| c == '0') { whole } else { text.as_str() });
        match digits.parse::<i32>() {
            Ok(number) if range.contains(&number) => Some(number),
            Ok(_) => self.refuse(ours, format!("is not from {} to {}", range.start(), range.end())),
            Err(_) => self.refuse(ours, "is no whole number"),
        }
    }

    /// An instant: a timestamp or a date in ISO 8601 (UTC where it says no zone), or seconds or milliseconds since the epoch.
    pub(super) fn instant(&mut self, ours: &str) -> Option<DateTime<Utc>> {
        let text = self.text(ours)?;
        let instant = parse_instant(&text).filter(|at| (1900..=9999).contains(&at.year()));
        instant.or_else(|| self.refuse(ours, "is no date"))
    }

    /// What of the schedule the projection would not make by itself: marks of what was sent.
    pub(super) fn email_schedule(&mut self) -> Map<String, Value> {
        let parsed = match self.value("email_schedule_status") {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::String(text.clone())),
            Some(value) => value.clone(),
            None => return Map::new(),
        };
        let entries = match parsed {
            Value::Object(entries) => entries,
            Value::Array(entries) if entries.is_empty() => return Map::new(),
            Value::String(text) if text.trim().is_empty() => return Map::new(),
            _ => return self.refuse("email_schedule_status", "is no JSON object").unwrap_or_default(),
        };
        let (mut kept, left): (Map<String, Value>, Map<String, Value>) =
            entries.into_iter().partition(|(_, entry)| is_mark(entry));
        // Nothing that was sent is due any more; whether it still might be, the projection says.
        for entry in kept.values_mut().filter_map(Value::as_object_mut) {
            entry.insert("active".to_owned(), Value::Bool(false));
        }
        if !left.is_empty() {
            let reason = format!("{} of its entries have no sent_at and are planned anew", left.len());
            let _: Option<()> = self.refuse("email_schedule_status", reason);
        }
        kept
    }
}

/// An entry that says when it was sent, or that is none of ours: neither is ever planned away.
fn is_mark(entry: &Value) -> bool {
    entry.as_object().is_none_or(|entry| entry.get("sent_at").is_some_and(|sent_at| !sent_at.is_null()))
}

fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(number) = text.parse::<f64>() {
        // Below 1e11 they are seconds, as with Clerk's; a year alone is no instant.
        let milliseconds = if number.abs() < 1e11 { number * 1000.0 } else { number };
        if number.abs() < 1e6 || !milliseconds.is_finite() || milliseconds.abs() > 2.6e14 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "its size has been looked at")]
        return DateTime::from_timestamp_millis(milliseconds as i64);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"] {
        if let Ok(at) = DateTime::parse_from_str(text, format) {
            return Some(at.to_utc());
        }
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc());
        }
    }
    Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?.and_utc())
}
