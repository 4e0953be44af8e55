//! The five rows of a user as the projection writes them: the provider-owned columns alone. Columns that the application
//! owns (counters, `onboarding_step`, …) never appear here, so that no write can touch them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::billing::facts::{Address, Card};

/// The projected part of the five tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub user: UserColumns,
    pub subscription: SubscriptionColumns,
    pub billing: BillingColumns,
    pub usage: UsageColumns,
    pub system: SystemColumns,
}

/// `users`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UserColumns {
    pub email: Option<String>,
    pub full_name: Option<String>,
    pub deleted_at: Option<DateTime<Utc>>,
}

/// `user_subscriptions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SubscriptionColumns {
    pub current_plan: String,
    pub intended_plan: Option<String>,
    /// Stripe's status verbatim, or `none`.
    pub subscription_status: String,
    /// `pending`, `active`, `converted` or `expired`.
    pub trial_status: String,
    pub trial_start_date: Option<DateTime<Utc>>,
    pub trial_end_date: Option<DateTime<Utc>>,
    pub trial_conversion_date: Option<DateTime<Utc>>,
    pub subscription_cancel_date: Option<DateTime<Utc>>,
    pub subscription_renewal_date: Option<DateTime<Utc>>,
    /// `error`, `needs_reconcile`, `not_linked`, `pending` or `synced`.
    pub billing_sync_status: String,
    /// The least instant after now at which the passing of time alone changes a row.
    pub next_change_at: Option<DateTime<Utc>>,
}

/// `user_billing`. `card` and `address` are flattened into its `card_*` and `billing_address_*` columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BillingColumns {
    pub stripe_customer_id: Option<String>,
    pub stripe_subscription_id: Option<String>,
    pub payment_method_id: Option<String>,
    /// `card_last_4` at most 4 characters, `card_brand` at most 20; a longer value is `None`.
    pub card: Card,
    /// `country` at most 2 characters, `postal_code` at most 20; a longer value is `None`.
    pub address: Address,
}

/// `user_usage`, without its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UsageColumns {
    /// -1: unlimited.
    pub plan_campaigns_limit: i32,
    /// -1: unlimited.
    pub plan_creators_limit: i32,
    pub plan_features: Value,
    pub usage_reset_date: Option<DateTime<Utc>>,
    pub usage_anchor: Option<DateTime<Utc>>,
    pub usage_period_start: Option<DateTime<Utc>>,
    /// True while past_due: the period does not move.
    pub reset_held: bool,
    /// The subscription whose one early reset (by a change of anchor) has happened.
    pub early_reset_subscription: Option<String>,
}

/// `user_system_data`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SystemColumns {
    pub signup_timestamp: Option<DateTime<Utc>>,
    pub email_schedule_status: BTreeMap<String, EmailEntry>,
    pub last_webhook_event: Option<String>,
    pub last_webhook_timestamp: Option<DateTime<Utc>>,
}

/// One entry of `user_system_data.email_schedule_status`, keyed `kind:subject`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmailEntry {
    #[serde(default)]
    pub due_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub active: bool,
    /// The mailer's mark, kept as it wrote it.
    #[serde(default)]
    pub sent_at: Value,
    /// True for what was due before the user signed up (or was imported).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suppressed: bool,
    /// Whatever else the application keeps in the entry.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A usage period that has ended: what `usage_periods` gets, from the row's own counters, when they are zeroed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReset {
    /// Key of the archived period.
    pub period_start: DateTime<Utc>,
    pub period_end: DateTime<Utc>,
    /// Whole periods that nothing was archived for (downtime).
    pub periods_skipped: u32,
}

/// One column that an event changed: what `inspect` explains with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The Clerk id of the user whose row it is.
    pub user_id: String,
    pub table: Cow<'static, str>,
    pub column: Cow<'static, str>,
    pub old: Value,
    pub new: Value,
}
