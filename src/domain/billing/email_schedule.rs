//! `user_system_data.email_schedule_status`: what the application's mailer may send, and when. The mailer alone says that it
//! has sent something, and what it has sent is never forgotten.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::domain::billing::rows::EmailEntry;

/// How long before the end of a trial its reminder is due.
const TRIAL_REMINDER: TimeDelta = TimeDelta::days(3);

/// How long before a card expires its reminder is due.
const CARD_REMINDER: TimeDelta = TimeDelta::days(30);

/// A message that follows from the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `kind:subject`.
    pub key: String,
    pub due_at: Option<DateTime<Utc>>,
    /// Whether it should go out once it is due.
    pub active: bool,
}

impl Message {
    /// Greets a user; due at the sign-up, if that is known.
    pub fn welcome(user_id: &str, signup_at: Option<DateTime<Utc>>) -> Message {
        Message { key: key("welcome", user_id), due_at: signup_at, active: true }
    }

    /// The trial is about to end.
    pub fn trial_ending(subject: &str, trial_end: DateTime<Utc>, active: bool) -> Message {
        Message { key: key("trial_ending", subject), due_at: earlier(trial_end, TRIAL_REMINDER), active }
    }

    /// The trial has ended without a conversion.
    pub fn trial_ended(subject: &str, trial_end: DateTime<Utc>, active: bool) -> Message {
        Message { key: key("trial_ended", subject), due_at: Some(trial_end), active }
    }

    /// An invoice (or Clerk item) waits for its payment.
    pub fn payment_failed(subject: &str, due_at: DateTime<Utc>, active: bool) -> Message {
        Message { key: key("payment_failed", subject), due_at: Some(due_at), active }
    }

    /// The default card is about to expire.
    pub fn card_expiring(payment_method: &str, expires_at: DateTime<Utc>) -> Message {
        Message { key: key("card_expiring", payment_method), due_at: card_reminder(expires_at), active: true }
    }
}

/// When the reminder of a card that expires then is due.
pub fn card_reminder(expires_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    earlier(expires_at, CARD_REMINDER)
}

/// Merges the messages into the stored schedule. What was due before `suppressed_before` is marked: nobody wants a year of
/// reminders on the day of an import. A stored entry that follows from nothing stays only if it was sent.
pub fn plan_schedule(
    messages: Vec<Message>,
    suppressed_before: Option<DateTime<Utc>>,
    stored: Option<&BTreeMap<String, EmailEntry>>,
) -> BTreeMap<String, EmailEntry> {
    let mut schedule = BTreeMap::new();
    for message in messages {
        let kept = stored.and_then(|stored| stored.get(&message.key));
        let entry = EmailEntry {
            due_at: message.due_at,
            active: message.active,
            sent_at: kept.map_or(Value::Null, |entry| entry.sent_at.clone()),
            suppressed: matches!((message.due_at, suppressed_before), (Some(due), Some(limit)) if due < limit),
            other: kept.map(|entry| entry.other.clone()).unwrap_or_default(),
        };
        schedule.insert(message.key, entry);
    }
    for (key, entry) in stored.into_iter().flatten().filter(|(_, entry)| !entry.sent_at.is_null()) {
        if !schedule.contains_key(key) {
            schedule.insert(key.clone(), EmailEntry { active: false, ..entry.clone() });
        }
    }
    schedule
}

fn key(kind: &str, subject: &str) -> String {
    [kind, ":", subject].concat()
}

/// `None` only beyond what a timestamp can hold.
fn earlier(at: DateTime<Utc>, by: TimeDelta) -> Option<DateTime<Utc>> {
    at.checked_sub_signed(by)
}
