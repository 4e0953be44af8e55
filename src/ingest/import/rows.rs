//! The table's rows, batch by batch, as users: of several rows of one user the newest, and a note of every row and value that
//! is left out.

use serde_json::{Map, Value};

use super::Finding;
use crate::domain::user_profile::{self, Mapping, OwnColumns, UserProfile};
use crate::store::{ProfileReader, StoreError};

/// Reads a table.
pub(super) struct Rows<'a> {
    reader: ProfileReader,
    mapping: &'a Mapping,
    plan_keys: &'a [String],
    batch: usize,
    /// The last user read: another row of the same may follow.
    pending: Option<UserProfile>,
    is_at_end: bool,
    count: u64,
    told: u64,
    skipped: Vec<Finding>,
    values: Vec<Finding>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(reader: ProfileReader, mapping: &'a Mapping, plan_keys: &'a [String], batch: usize) -> Rows<'a> {
        Rows {
            reader,
            mapping,
            plan_keys,
            batch: batch.max(1),
            pending: None,
            is_at_end: false,
            count: 0,
            told: 0,
            skipped: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The users of the next batch; may be empty. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<UserProfile>>, StoreError> {
        if self.is_at_end {
            return Ok(None);
        }
        let texts = self.reader.next(self.batch).await?;
        self.is_at_end = texts.is_empty();
        let mut users = Vec::with_capacity(texts.len());
        for text in texts {
            self.count += 1;
            users.extend(self.take(&text));
        }
        if self.is_at_end {
            users.extend(self.pending.take());
        }
        for user in &users {
            let value = |problem: &user_profile::Problem| Finding {
                row: user.user_id.clone(),
                column: Some(problem.column.clone()),
                reason: problem.reason.clone(),
            };
            self.values.extend(user.problems.iter().map(value));
        }
        Ok(Some(users))
    }

    /// Reads a row; returns the user before it, if it is another's.
    fn take(&mut self, text: &str) -> Option<UserProfile> {
        let row: Map<String, Value> = match serde_json::from_str(text) {
            Ok(row) => row,
            Err(_unreadable) => {
                self.skip(format!("row {}", self.count), None, "holds JSON that cannot be read");
                return None;
            }
        };
        let user = match user_profile::read(self.mapping, &row, self.plan_keys) {
            Ok(user) => user,
            Err(problem) => {
                self.skip(self.name(&row), Some(problem.column), &problem.reason);
                return None;
            }
        };
        let before = self.pending.take();
        match before {
            Some(before) if before.user_id == user.user_id => {
                let (newer, older) = if user.updated_at > before.updated_at { (user, before) } else { (before, user) };
                self.skip(older.user_id, None, "another row of the same user is newer, or as new");
                self.pending = Some(newer);
                None
            }
            before => {
                self.pending = Some(user);
                before
            }
        }
    }

    /// What a row without a user can be found by.
    fn name(&self, row: &Map<String, Value>) -> String {
        match row.get("id") {
            Some(Value::String(id)) => format!("row with id {id}"),
            Some(Value::Number(id)) => format!("row with id {id}"),
            _ => format!("row {}", self.count),
        }
    }

    fn skip(&mut self, row: String, column: Option<String>, reason: &str) {
        self.skipped.push(Finding { row, column, reason: reason.to_owned() });
    }

    /// Rows read since this was last asked.
    pub(super) fn take_advance(&mut self) -> u64 {
        let advance = self.count - self.told;
        self.told = self.count;
        advance
    }

    /// Rows read since the start.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What was noted since the start.
    pub(super) fn take_findings(&mut self) -> (Vec<Finding>, Vec<Finding>) {
        (std::mem::take(&mut self.skipped), std::mem::take(&mut self.values))
    }

    /// Starts again, with the same rows.
    pub(super) async fn rewind(&mut self) -> Result<(), StoreError> {
        self.reader.rewind().await?;
        (self.is_at_end, self.pending, self.count, self.told) = (false, None, 0, 0);
        Ok(())
    }

    pub(super) async fn close(self) {
        self.reader.close().await;
    }
}

/// What the import before has left of the application's own columns: told by an import, else by the rows that were adopted.
pub(super) fn own_of(object: &Value) -> OwnColumns {
    if let Some(own) = object.get("own") {
        return serde_json::from_value(own.clone()).unwrap_or_default();
    }
    let text = |name: &str| object.pointer(&format!("/users/{name}")).and_then(Value::as_str).map(str::to_owned);
    let count = |name: &str| {
        let value = object.pointer(&format!("/user_usage/{name}")).and_then(Value::as_i64);
        value.and_then(|value| i32::try_from(value).ok()).unwrap_or_default()
    };
    OwnColumns {
        business_name: text("business_name"),
        brand_description: text("brand_description"),
        industry: text("industry"),
        onboarding_step: text("onboarding_step"),
        is_admin: object.pointer("/users/is_admin").and_then(Value::as_bool).unwrap_or_default(),
        usage_campaigns_current: count("usage_campaigns_current"),
        usage_creators_current_month: count("usage_creators_current_month"),
        enrichments_current_month: count("enrichments_current_month"),
        ..OwnColumns::default()
    }
}
