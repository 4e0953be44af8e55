//! A user's rows as they were at a time: the rows of today with what the ledger says has changed since taken back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::inspect::user_report::{SetBy, list_setters, rows_text};
use crate::cli::output::time;
use crate::store::{PastEffect, Profile, Store};

/// What identifies a row, and what the application writes: the ledger does not follow it.
const NOT_FOLLOWED: [&str; 15] = [
    "id",
    "user_id",
    "created_at",
    "updated_at",
    "business_name",
    "brand_description",
    "industry",
    "onboarding_step",
    "is_admin",
    "requested_plan",
    "requested_at",
    "usage_campaigns_current",
    "usage_creators_current_month",
    "enrichments_current_month",
    "early_reset_subscription",
];

/// The projected columns as they were.
#[derive(Debug, Serialize)]
pub struct PastReport {
    pub user_id: String,
    pub at: DateTime<Utc>,
    /// Table → column → value.
    pub rows: BTreeMap<String, Map<String, Value>>,
    /// `table.column` → the event that had set it.
    pub set_by: BTreeMap<String, SetBy>,
    /// How many changes of a column have been taken back.
    pub changes_since: usize,
}

impl PastReport {
    /// Works the rows out; an error when there were none yet, or when what it takes has been dropped from the ledger.
    pub async fn read(store: &Store, clerk_id: &str, at: DateTime<Utc>) -> anyhow::Result<PastReport> {
        let profile = store.find_profile(clerk_id).await?.context("no such user")?;
        let made_at = profile.users.get("created_at").and_then(Value::as_str).and_then(|text| text.parse::<DateTime<Utc>>().ok());
        if let Some(made_at) = made_at.filter(|made_at| *made_at > at) {
            bail!("{clerk_id} had no rows at {}: they were made at {} (UTC)", time(Some(at)), time(Some(made_at)));
        }
        let effects = store.list_effects_since(clerk_id, at).await?;
        let owner_ids = owner_ids(store, clerk_id, &effects).await?;
        if let Some(lost) = store.find_lost_effects(&owner_ids, at).await? {
            bail!(
                "the rows of {clerk_id} at {} cannot be told any more: what {} later events changed has been dropped from the \
                 ledger by retention. The earliest time that can be told is {} (UTC)",
                time(Some(at)),
                lost.events,
                time(Some(lost.last_received_at))
            );
        }
        let mut rows = followed_columns(&profile);
        take_back(&mut rows, &effects);
        // The job and the meters end periods without an event; what they ended is archived.
        if let (Some((start, end)), Some(usage)) = (store.find_usage_period(clerk_id, at).await?, rows.get_mut("user_usage")) {
            usage.insert("usage_period_start".to_owned(), json!(start));
            usage.insert("usage_reset_date".to_owned(), json!(end));
        }
        let set_by = list_setters(store, &owner_ids, clerk_id, Some(at)).await?;
        Ok(PastReport { user_id: clerk_id.to_owned(), at, rows, set_by, changes_since: effects.len() })
    }

    /// The report as text.
    pub fn to_text(&self) -> String {
        let tables = self.rows.iter().map(|(table, row)| (table.as_str(), Value::Object(row.clone())));
        format!(
            "{} as of {} (UTC), {} changes taken back\n\n{}\
             What the application owns, counters and sent_at marks among it, is not followed by the ledger.\n",
            self.user_id,
            time(Some(self.at)),
            self.changes_since,
            rows_text(tables, &self.set_by)
        )
    }
}

/// The user's own id, and every customer that is or was the user's since then.
async fn owner_ids(store: &Store, clerk_id: &str, effects: &[PastEffect]) -> anyhow::Result<Vec<String>> {
    let mut ids: BTreeSet<String> = store.list_owner_ids(clerk_id).await?.into_iter().map(|(id, _)| id).collect();
    let customers = effects.iter().filter(|effect| effect.column == "stripe_customer_id");
    ids.extend(customers.flat_map(|effect| [&effect.old, &effect.new]).filter_map(|id| id.as_str().map(str::to_owned)));
    Ok(ids.into_iter().collect())
}

fn followed_columns(profile: &Profile) -> BTreeMap<String, Map<String, Value>> {
    let nothing = Value::Null;
    let tables = [
        ("users", &profile.users),
        ("user_subscriptions", profile.user_subscriptions.as_ref().unwrap_or(&nothing)),
        ("user_billing", profile.user_billing.as_ref().unwrap_or(&nothing)),
        ("user_usage", profile.user_usage.as_ref().unwrap_or(&nothing)),
        ("user_system_data", profile.user_system_data.as_ref().unwrap_or(&nothing)),
    ];
    let followed = |row: &Value| {
        let columns = row.as_object().into_iter().flatten();
        columns.filter(|(column, _)| !NOT_FOLLOWED.contains(&column.as_str())).map(|(c, v)| (c.clone(), v.clone())).collect()
    };
    tables.into_iter().map(|(table, row)| (table.to_owned(), followed(row))).collect()
}

/// Takes effects back, the latest first. Those of one transaction have no order among them: a column's value before them is
/// the one that is left over when every new value has been matched with an old one.
fn take_back(rows: &mut BTreeMap<String, Map<String, Value>>, latest_first: &[PastEffect]) {
    for transaction in latest_first.chunk_by(|a, b| a.received_at == b.received_at) {
        let mut columns: BTreeMap<(&str, &str), Vec<&PastEffect>> = BTreeMap::new();
        for effect in transaction {
            columns.entry((&effect.table, &effect.column)).or_default().push(effect);
        }
        for ((table, column), effects) in columns {
            let mut olds: Vec<&Value> = effects.iter().map(|effect| &effect.old).collect();
            for effect in &effects {
                if let Some(index) = olds.iter().position(|old| **old == effect.new) {
                    olds.swap_remove(index);
                }
            }
            // None is left where the column came back to what it had been.
            if let ([before], Some(row)) = (olds.as_slice(), rows.get_mut(table)) {
                row.insert(column.to_owned(), (*before).clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(second: i64, old: &str, new: &str) -> PastEffect {
        let received_at = DateTime::from_timestamp(second, 0).unwrap();
        let (table, column) = ("users".to_owned(), "email".to_owned());
        PastEffect { received_at, table, column, old: json!(old), new: json!(new) }
    }

    fn before(effects: &[PastEffect]) -> Value {
        let row = Map::from_iter([("email".to_owned(), json!("now"))]);
        let mut rows = BTreeMap::from([("users".to_owned(), row)]);
        take_back(&mut rows, effects);
        rows["users"]["email"].clone()
    }

    #[test]
    fn effects_are_taken_back_across_transactions_and_within_one() {
        assert_eq!(before(&[]), "now");
        assert_eq!(before(&[effect(2, "b", "now"), effect(1, "a", "b")]), "a");
        assert_eq!(before(&[effect(1, "b", "now"), effect(1, "a", "b")]), "a");
        assert_eq!(before(&[effect(1, "a", "b"), effect(1, "b", "now")]), "a");
        assert_eq!(before(&[effect(1, "a", "b"), effect(1, "b", "a"), effect(1, "a", "now")]), "a");
        assert_eq!(before(&[effect(2, "now", "b"), effect(2, "b", "now")]), "now");
    }
}
