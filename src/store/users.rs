//! The five tables of a user: locking and reading them, and writing what a projection changed. Counters are never bound as
//! values: only SQL changes them.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::{NoContext, Timestamp, Uuid};

use crate::domain::billing::facts::{Address, Card};
use crate::domain::billing::rows::{
    BillingColumns, EmailEntry, Rows, SubscriptionColumns, SystemColumns, UsageColumns, UserColumns,
};
use crate::domain::billing::stored::{StoredUser, UserWrite};
use crate::store::error::StoreError;
use crate::store::facts::json_text;
use crate::store::pool::{Statement, Tx};
use crate::store::users_sql::{
    INSERT_BILLING, INSERT_SUBSCRIPTIONS, INSERT_SYSTEM_DATA, INSERT_USAGE, INSERT_USERS, UPDATE_BILLING, UPDATE_SUBSCRIPTIONS,
    UPDATE_SYSTEM_DATA, UPDATE_USAGE, UPDATE_USERS,
};

/// The parts that [`bind_updates`] binds, in the tables' fixed order.
pub(crate) const UPDATES: [&str; 5] = [UPDATE_USERS, UPDATE_SUBSCRIPTIONS, UPDATE_BILLING, UPDATE_USAGE, UPDATE_SYSTEM_DATA];

/// The width of `user_system_data.last_webhook_event`.
const EVENT_TYPE_WIDTH: usize = 100;

/// A user's rows as `locked_users!` gives them.
#[derive(Debug, Deserialize)]
pub(crate) struct LockedUser {
    id: Uuid,
    user_id: String,
    email: Option<String>,
    full_name: Option<String>,
    current_plan: Option<String>,
    intended_plan: Option<String>,
    subscription_status: String,
    trial_status: String,
    billing_sync_status: Option<String>,
    requested_plan: Option<String>,
    stripe_customer_id: Option<String>,
    stripe_subscription_id: Option<String>,
    payment_method_id: Option<String>,
    card_last_4: Option<String>,
    card_brand: Option<String>,
    card_exp_month: Option<i32>,
    card_exp_year: Option<i32>,
    billing_address_city: Option<String>,
    billing_address_country: Option<String>,
    billing_address_postal_code: Option<String>,
    plan_campaigns_limit: i32,
    plan_creators_limit: i32,
    plan_features: Box<RawValue>,
    reset_held: bool,
    early_reset_subscription: Option<String>,
    email_schedule_status: Box<RawValue>,
    last_webhook_event: Option<String>,
    #[serde(skip)]
    times: Vec<Option<DateTime<Utc>>>,
}

impl LockedUser {
    /// With its instants, in the order of the statement.
    pub(crate) fn with_times(self, times: Vec<Option<DateTime<Utc>>>) -> LockedUser {
        LockedUser { times, ..self }
    }

    /// With the id of its `users` row. `None` when instants are missing, which the statement always gives.
    pub(crate) fn into_stored(self) -> Option<(Uuid, StoredUser)> {
        let [
            created_at,
            deleted_at,
            trial_start_date,
            trial_end_date,
            trial_conversion_date,
            subscription_cancel_date,
            subscription_renewal_date,
            next_change_at,
            requested_at,
            usage_reset_date,
            usage_anchor,
            usage_period_start,
            signup_timestamp,
            last_webhook_timestamp,
        ]: [Option<DateTime<Utc>>; 14] = self.times.try_into().ok()?;
        let rows = Rows {
            user: UserColumns { email: self.email, full_name: self.full_name, deleted_at },
            subscription: SubscriptionColumns {
                current_plan: self.current_plan.unwrap_or_default(),
                intended_plan: self.intended_plan,
                subscription_status: self.subscription_status,
                trial_status: self.trial_status,
                trial_start_date,
                trial_end_date,
                trial_conversion_date,
                subscription_cancel_date,
                subscription_renewal_date,
                billing_sync_status: self.billing_sync_status.unwrap_or_default(),
                next_change_at,
            },
            billing: BillingColumns {
                stripe_customer_id: self.stripe_customer_id,
                stripe_subscription_id: self.stripe_subscription_id,
                payment_method_id: self.payment_method_id,
                card: Card {
                    last_4: self.card_last_4,
                    brand: self.card_brand,
                    exp_month: self.card_exp_month,
                    exp_year: self.card_exp_year,
                },
                address: Address {
                    city: self.billing_address_city,
                    country: self.billing_address_country,
                    postal_code: self.billing_address_postal_code,
                },
            },
            usage: UsageColumns {
                plan_campaigns_limit: self.plan_campaigns_limit,
                plan_creators_limit: self.plan_creators_limit,
                plan_features: serde_json::from_str(self.plan_features.get()).unwrap_or_default(),
                usage_reset_date,
                usage_anchor,
                usage_period_start,
                reset_held: self.reset_held,
                early_reset_subscription: self.early_reset_subscription,
            },
            system: SystemColumns {
                signup_timestamp,
                email_schedule_status: read_schedule(self.email_schedule_status.get()),
                last_webhook_event: self.last_webhook_event,
                last_webhook_timestamp,
            },
        };
        let stored = StoredUser {
            user_id: self.user_id,
            created_at: created_at?,
            rows,
            requested_plan: self.requested_plan,
            requested_at,
        };
        Some((self.id, stored))
    }
}

/// The application writes into this column too: an entry that is none of ours is left out here, and left alone on write.
fn read_schedule(text: &str) -> BTreeMap<String, EmailEntry> {
    let entries: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
    entries.into_iter().filter_map(|(key, entry)| Some((key, serde_json::from_value(entry).ok()?))).collect()
}

/// Makes the rows of new users.
pub(crate) async fn insert(tx: &mut Tx, writes: &[&UserWrite], now: DateTime<Utc>) -> Result<(), StoreError> {
    let query = tx
        .query_as::<(String, Uuid)>(INSERT_USERS)
        .bind(writes.iter().map(|_| new_id(now)).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.user_id.as_str()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.new.user.email.as_deref()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.new.user.full_name.as_deref()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.new.user.deleted_at).collect::<Vec<_>>())
        .bind(now);
    let ids: HashMap<String, Uuid> = query.fetch_all(tx.connection()?).await?.into_iter().collect();
    let writes: Vec<(Uuid, &UserWrite)> = writes.iter().filter_map(|write| Some((*ids.get(&write.user_id)?, *write))).collect();
    let of = |writes: &[(Uuid, &UserWrite)]| (writes.iter().map(|_| new_id(now)).collect::<Vec<_>>(), user_ids(writes));

    let (row_ids, owners) = of(&writes);
    let query = tx.query(INSERT_SUBSCRIPTIONS).bind(row_ids).bind(owners);
    bind_subscription(query, &writes).execute(tx.connection()?).await?;
    let (row_ids, owners) = of(&writes);
    let query = tx.query(INSERT_BILLING).bind(row_ids).bind(owners);
    bind_billing(query, &writes).execute(tx.connection()?).await?;
    let (row_ids, owners) = of(&writes);
    let query = tx.query(INSERT_USAGE).bind(row_ids).bind(owners);
    bind_usage(query, &writes).execute(tx.connection()?).await?;
    let (row_ids, owners) = of(&writes);
    let query = tx
        .query(INSERT_SYSTEM_DATA)
        .bind(row_ids)
        .bind(owners)
        .bind(writes.iter().map(|(_, write)| write.new.system.signup_timestamp).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| json_text(&write.new.system.email_schedule_status)).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| last_event(write)).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| write.new.system.last_webhook_timestamp).collect::<Vec<_>>());
    query.execute(tx.connection()?).await?;
    Ok(())
}

/// Binds the updates of [`UPDATES`]: of every table the rows that differ.
pub(crate) fn bind_updates(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let differing = |differs: fn(&UserWrite) -> bool| -> Vec<(Uuid, &UserWrite)> {
        writes.iter().copied().filter(|(_, write)| differs(write)).collect()
    };
    let users = differing(|write| write.old.user != write.new.user);
    let query = bind_users(query.bind(user_ids(&users)), &users);
    let subscriptions = differing(|write| write.old.subscription != write.new.subscription);
    let query = bind_subscription(query.bind(user_ids(&subscriptions)), &subscriptions);
    let billing = differing(|write| write.old.billing != write.new.billing);
    let query = bind_billing(query.bind(user_ids(&billing)), &billing);
    let usage = differing(|write| write.old.usage != write.new.usage || write.usage_reset.is_some());
    let query = bind_resets(bind_usage(query.bind(user_ids(&usage)), &usage), &usage);
    let system = differing(|write| write.old.system != write.new.system);
    bind_system_data(query.bind(user_ids(&system)), &system)
}

fn bind_users(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    query
        .bind(writes.iter().map(|(_, write)| write.new.user.email.as_deref()).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| write.new.user.full_name.as_deref()).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| write.new.user.deleted_at).collect::<Vec<_>>())
}

fn bind_resets(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let resets = || writes.iter().map(|(_, write)| write.usage_reset.as_ref());
    query
        .bind(resets().map(|reset| reset.map(|r| r.period_start)).collect::<Vec<_>>())
        .bind(resets().map(|reset| reset.map(|r| r.period_end)).collect::<Vec<_>>())
        .bind(resets().map(|reset| reset.map_or(0, |r| i32::try_from(r.periods_skipped).unwrap_or(i32::MAX))).collect::<Vec<_>>())
}

fn bind_system_data(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let schedules: Vec<(String, Option<String>)> = writes.iter().map(|(_, write)| schedule_change(write)).collect();
    query
        .bind(writes.iter().map(|(_, write)| write.new.system.signup_timestamp).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| last_event(write)).collect::<Vec<_>>())
        .bind(writes.iter().map(|(_, write)| write.new.system.last_webhook_timestamp).collect::<Vec<_>>())
        .bind(schedules.iter().map(|(removed, _)| removed.as_str()).collect::<Vec<_>>())
        .bind(schedules.iter().map(|(_, changed)| changed.as_deref()).collect::<Vec<_>>())
}

/// The keys to take away and the entries to put, as JSON; `None` for entries when nothing changes.
fn schedule_change(write: &UserWrite) -> (String, Option<String>) {
    let (old, new) = (&write.old.system.email_schedule_status, &write.new.system.email_schedule_status);
    let removed: Vec<&String> = old.keys().filter(|key| !new.contains_key(*key)).collect();
    let changed: BTreeMap<&String, &EmailEntry> = new.iter().filter(|(key, entry)| old.get(*key) != Some(entry)).collect();
    if removed.is_empty() && changed.is_empty() {
        return ("[]".into(), None);
    }
    (json_text(&removed).unwrap_or_else(|| "[]".into()), json_text(&changed))
}

fn bind_subscription(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let rows: Vec<&SubscriptionColumns> = writes.iter().map(|(_, write)| &write.new.subscription).collect();
    query
        .bind(rows.iter().map(|row| row.current_plan.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.intended_plan.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.subscription_status.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.trial_status.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.trial_start_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.trial_end_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.trial_conversion_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.subscription_cancel_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.subscription_renewal_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.billing_sync_status.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.next_change_at).collect::<Vec<_>>())
}

fn bind_billing(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let rows: Vec<&BillingColumns> = writes.iter().map(|(_, write)| &write.new.billing).collect();
    query
        .bind(rows.iter().map(|row| row.stripe_customer_id.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.stripe_subscription_id.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.payment_method_id.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.card.last_4.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.card.brand.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.card.exp_month).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.card.exp_year).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.address.city.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.address.country.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.address.postal_code.clone()).collect::<Vec<_>>())
}

fn bind_usage(query: Statement, writes: &[(Uuid, &UserWrite)]) -> Statement {
    let rows: Vec<&UsageColumns> = writes.iter().map(|(_, write)| &write.new.usage).collect();
    query
        .bind(rows.iter().map(|row| row.plan_campaigns_limit).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.plan_creators_limit).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.plan_features.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage_reset_date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage_anchor).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage_period_start).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reset_held).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.early_reset_subscription.clone()).collect::<Vec<_>>())
}

fn user_ids(writes: &[(Uuid, &UserWrite)]) -> Vec<Uuid> {
    writes.iter().map(|(id, _)| *id).collect()
}

/// A UUIDv7 of that instant.
pub(crate) fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

/// NULL when the column cannot hold it: no event may fail on a column's width.
fn last_event(write: &UserWrite) -> Option<&str> {
    write.new.system.last_webhook_event.as_deref().filter(|event| event.chars().count() <= EVENT_TYPE_WIDTH)
}
