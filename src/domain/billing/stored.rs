//! The stored state that the fold works on, as `store` loads it and writes it back. Shape only: `accounts` gives it
//! meaning, `store` gives it columns.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::billing::facts::Fact;
use crate::domain::billing::rows::{Rows, UsageReset};
use crate::domain::event::{ObjectKey, TypeRank};
use crate::domain::json_text::JsonText;

/// One row of `billsync.provider_objects`.
#[derive(Clone, Debug)]
pub struct StoredObject {
    pub key: ObjectKey,
    pub object_type: String,
    /// The winner's owner, else that of `owner_evidence`.
    pub owner_id: Option<String>,
    /// The greatest snapshot that names an owner, kept while the winner names none.
    pub owner_evidence: Option<OwnerEvidence>,
    /// The winning snapshot; `None` while nothing but its deletion is known.
    pub winner: Option<Winner>,
    pub fact: Option<Arc<Fact>>,
    /// The other snapshots that share the winner's key.
    pub contenders: Vec<Contender>,
    /// Whether the contenders' order could not be told: the provider has to be asked.
    pub ambiguous: bool,
    /// The earliest evidence of its deletion.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// The winning snapshot of an object, but for its fact.
#[derive(Clone, Debug)]
pub struct Winner {
    pub terminal: bool,
    pub as_of: DateTime<Utc>,
    pub event_id: String,
    pub evidence: Evidence,
    /// Whether the winning snapshot itself names the owner.
    pub names_owner: bool,
    /// `None` when it was not loaded: only objects that share a batch's key need theirs.
    pub object: Option<Arc<str>>,
}

/// What ordering needs to know of a snapshot beside its object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    pub type_rank: TypeRank,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_read: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_attributes: Option<JsonText>,
    /// Whether it precedes another contender; noted once there are too many of them to be compared again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precedes: Option<bool>,
    /// Of a winner: whether so many snapshots shared its key that the others were let go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crowded: bool,
}

/// A snapshot with the winner's key that is not the winner. `provider_objects.contenders` is an array of these.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contender {
    pub event_id: String,
    #[serde(flatten)]
    pub evidence: Evidence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// JSON text.
    pub object: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Arc<Fact>>,
}

/// The greatest snapshot that names an owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnerEvidence {
    pub terminal: bool,
    pub as_of: DateTime<Utc>,
    pub event_id: String,
    pub owner_id: String,
}

/// Why a customer belongs to a user; `owners.linked_by`. Strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkedBy {
    Operator,
    CustomerMetadata,
    ClerkMetadata,
    Checkout,
    ObjectMetadata,
    VerifiedEmail,
    Imported,
}

impl LinkedBy {
    /// Every rank, strongest first.
    pub const ALL: [LinkedBy; 7] = [
        LinkedBy::Operator,
        LinkedBy::CustomerMetadata,
        LinkedBy::ClerkMetadata,
        LinkedBy::Checkout,
        LinkedBy::ObjectMetadata,
        LinkedBy::VerifiedEmail,
        LinkedBy::Imported,
    ];

    /// The text that the database keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkedBy::Operator => "operator",
            LinkedBy::CustomerMetadata => "customer_metadata",
            LinkedBy::ClerkMetadata => "clerk_metadata",
            LinkedBy::Checkout => "checkout",
            LinkedBy::ObjectMetadata => "object_metadata",
            LinkedBy::VerifiedEmail => "verified_email",
            LinkedBy::Imported => "imported",
        }
    }

    /// The inverse of [`LinkedBy::as_str`].
    pub fn parse(text: &str) -> Option<LinkedBy> {
        LinkedBy::ALL.into_iter().find(|l| l.as_str() == text)
    }
}

/// The newest event of an owner, by (occurred_at, event id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEvent {
    pub at: DateTime<Utc>,
    pub event_id: String,
    pub event_type: String,
    pub failed: bool,
}

/// One row of `billsync.owners`: derived, for a Stripe customer or a Clerk user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owner {
    pub owner_id: String,
    /// Of a customer: whose it is. Of a Clerk user: `None`.
    pub clerk_user_id: Option<String>,
    pub linked_by: Option<LinkedBy>,
    pub newest: Option<NewestEvent>,
    /// Of a Clerk user: the customer that its metadata claims.
    pub claimed_customer_id: Option<String>,
    /// Of a Clerk user: the customer that its import fact names.
    pub imported_customer_id: Option<String>,
    /// Of a customer: its address. Of a Clerk user: the verified ones. Lower case, sorted.
    pub emails: Vec<String>,
    /// Of a customer: the test clock that it lives by.
    pub test_clock: Option<String>,
    /// Of a customer: whether any Stripe object that the projection reads has named it.
    pub has_facts: bool,
}

/// One row of `billsync.operator_links`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorLink {
    pub customer_id: String,
    /// `None`: nobody.
    pub clerk_user_id: Option<String>,
}

/// The invoices of a subscription in one row, so that 10,000 cost what ten cost. Over the stored, undeleted invoices that
/// have a line of `subscription` with `period.start >= since` and that were not loaded one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceSummary {
    /// The owner of the invoices.
    pub customer_id: String,
    pub subscription: String,
    /// `trial_end - 60 s`.
    pub since: DateTime<Utc>,
    /// The least [`crate::domain::billing::facts::Invoice::conversion_at`] of the paid ones.
    pub converted_at: Option<DateTime<Utc>>,
}

/// A user's stored five rows, locked.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// The Clerk id.
    pub user_id: String,
    pub created_at: DateTime<Utc>,
    pub rows: Rows,
    /// Application-owned inputs of the projection.
    pub requested_plan: Option<String>,
    pub requested_at: Option<DateTime<Utc>>,
}

/// Everything stored that a batch of events can touch.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub objects: Vec<StoredObject>,
    pub invoice_summaries: Vec<InvoiceSummary>,
    pub owners: Vec<Owner>,
    pub operator_links: Vec<OperatorLink>,
    pub users: Vec<StoredUser>,
}

/// A user's rows to write.
#[derive(Clone, Debug)]
pub struct UserWrite {
    pub user_id: String,
    /// Whether the five rows have to be made.
    pub is_new: bool,
    /// As loaded (default for a new one): a table whose columns equal these needs no write.
    pub old: Rows,
    pub new: Rows,
    /// Set when the counters are to be archived and zeroed with this write.
    pub usage_reset: Option<UsageReset>,
}

/// An object that the provider has to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refetch {
    pub object_id: String,
    pub after: DateTime<Utc>,
    /// `ambiguous` or `unknown_payment_method`.
    pub reason: &'static str,
}

/// What the fold of a batch leaves to write. One entry per key, sorted by key.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub objects: Vec<StoredObject>,
    pub owners: Vec<Owner>,
    pub users: Vec<UserWrite>,
    pub refetches: Vec<Refetch>,
    pub alerts: Vec<Alert>,
}

/// Something that a person should look at; logged and counted by name, never with payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// A stable name: `unmapped_price`, `unknown_status`, `deleted_user_with_live_subscription`, `claimed_twice`,
    /// `event_from_the_future`, `dispute`.
    pub name: &'static str,
    /// The id of the object, customer or user concerned.
    pub subject: String,
}
