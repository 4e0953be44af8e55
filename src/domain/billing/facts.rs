//! The narrow values that the projection reads of a provider's object: `provider_objects.fact`. Decoders make them, in
//! every API dialect alike; linking and projection read nothing else. No provider format is known here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One fact. The tag is the object type that `provider_objects.object_type` has too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Fact {
    Customer(Customer),
    Subscription(Subscription),
    SubscriptionSchedule(SubscriptionSchedule),
    /// Also the legacy `card` and `source`.
    PaymentMethod(PaymentMethod),
    Invoice(Invoice),
    #[serde(rename = "checkout.session")]
    CheckoutSession(CheckoutSession),
    PaymentIntent(PaymentIntent),
    #[serde(rename = "test_helpers.test_clock")]
    TestClock(TestClock),
    #[serde(rename = "user")]
    ClerkUser(ClerkUser),
    ClerkSubscription(ClerkSubscription),
    ClerkItem(ClerkItem),
    /// The newest snapshot of a Clerk item that was a free trial: a slot of its own, keyed `<item id>#trial`.
    ClerkItemTrial(ClerkItemTrial),
    ClerkPaymentAttempt(ClerkPaymentAttempt),
    Import(Box<Import>),
}

/// Whether the projection reads objects of that type: also when only the deletion of one is known.
pub fn is_projected_type(object_type: &str) -> bool {
    const TYPES: [&str; 16] = [
        "customer",
        "subscription",
        "subscription_schedule",
        "payment_method",
        "card",
        "source",
        "invoice",
        "checkout.session",
        "payment_intent",
        "test_helpers.test_clock",
        "user",
        "commerce_subscription",
        "commerce_subscription_item",
        "clerk_item_trial",
        "commerce_payment_attempt",
        "import",
    ];
    TYPES.contains(&object_type)
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// The part of an address that the application keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
}

impl Address {
    /// Whether no part of it is known.
    pub fn is_empty(&self) -> bool {
        self.city.is_none() && self.country.is_none() && self.postal_code.is_none()
    }
}

/// Stripe `customer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Customer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// Lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The Clerk user id in its metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clerk_user_id: Option<String>,
    /// `invoice_settings.default_payment_method`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_payment_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_clock: Option<String>,
}

/// What identifies the plan of a subscription item: the price inside the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Price {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_key: Option<String>,
    /// `metadata.plan_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_key: Option<String>,
}

/// A subscription item, or an item of a pending update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub price: Price,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_period_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_period_end: Option<DateTime<Utc>>,
}

/// A change that waits for its payment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// `subscription_items`; empty when the update does not change them.
    pub items: Vec<SubscriptionItem>,
}

/// Stripe `subscription`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// `customer`, else `customer_account`.
    pub customer: String,
    /// Verbatim; may be a string that Stripe adds later.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    pub items: Vec<SubscriptionItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_period_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_period_end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_cycle_anchor: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "is_false")]
    pub cancel_at_period_end: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canceled_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_payment_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_source: Option<String>,
    /// `charge_automatically` or `send_invoice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection_method: Option<String>,
    /// Whether `pause_collection` is set.
    #[serde(skip_serializing_if = "is_false")]
    pub pause_collection: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_update: Option<PendingUpdate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clerk_user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_clock: Option<String>,
}

/// A phase of a [`SubscriptionSchedule`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulePhase {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_date: Option<DateTime<Utc>>,
    pub prices: Vec<Price>,
}

/// Stripe `subscription_schedule`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionSchedule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// `subscription`, else `released_subscription`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    pub phases: Vec<SchedulePhase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_clock: Option<String>,
}

/// A card's face, brand normalised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Card {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp_month: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp_year: Option<i32>,
}

/// Stripe `payment_method`, and the legacy `card` and `source`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PaymentMethod {
    /// `None` when it is not attached (any more).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Stripe's `type`: `card`, `us_bank_account`, …
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// `None` when it is not a card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
    /// `billing_details.address`, or the legacy card's `address_*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Set by `payment_method.detached`, which is irreversible.
    #[serde(skip_serializing_if = "is_false")]
    pub detached: bool,
}

/// Stripe `invoice`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invoice {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Either shape's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// `draft`, `open`, `uncollectible`, `paid`, `void`; derived from `paid` where the old shape has no status.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// `status_transitions.finalized_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalized_at: Option<DateTime<Utc>>,
    /// `status_transitions.paid_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DateTime<Utc>>,
    pub attempt_count: i64,
    /// The latest `period.start` of a line of its subscription that is not a proration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clerk_user_id: Option<String>,
}

impl Invoice {
    /// When it converted a trial, if it is paid: `paid_at`, else `finalized_at`, else `created`.
    pub fn conversion_at(&self) -> Option<DateTime<Utc>> {
        if self.status == "paid" { self.paid_at.or(self.finalized_at).or(self.created) } else { None }
    }

    /// Whether it is gone: of invoices Stripe deletes drafts alone, so any other stays what it was.
    pub fn is_deleted(&self, deleted_at: Option<DateTime<Utc>>) -> bool {
        deleted_at.is_some() && self.status == "draft"
    }

    /// The subscription that it bills a period of, and that period's start.
    pub fn billed_period(&self) -> Option<(&str, DateTime<Utc>)> {
        Some((self.subscription.as_deref()?, self.line_start?))
    }
}

/// Stripe `checkout.session`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckoutSession {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `open`, `complete` or `expired`.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// `client_reference_id`, else the metadata's Clerk user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clerk_user_id: Option<String>,
    /// Whether a Payment Link made it.
    #[serde(skip_serializing_if = "is_false")]
    pub payment_link: bool,
    /// `metadata.plan_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_key: Option<String>,
}

/// Stripe `payment_intent`: its metadata alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PaymentIntent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clerk_user_id: Option<String>,
}

/// Stripe `test_helpers.test_clock`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TestClock {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_time: Option<DateTime<Utc>>,
}

/// Clerk `user`. A deleted user keeps `created_at` and `stripe_customer_id` alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClerkUser {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// The address whose id is `primary_email_address_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Every verified address, in lower case, sorted.
    pub verified_emails: Vec<String>,
    /// The customer that the user's private, else public, metadata claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_customer_id: Option<String>,
}

/// Clerk Billing's subscription; its items are facts of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClerkSubscription {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Clerk Billing's subscription item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClerkItem {
    /// The payer.
    pub user_id: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_slug: Option<String>,
    /// A default plan, or a zero-amount plan that does not recur: not a subscription.
    #[serde(skip_serializing_if = "is_false")]
    pub is_default_plan: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_free_trial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canceled_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past_due_at: Option<DateTime<Utc>>,
}

/// The trial slot of a [`ClerkItem`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClerkItemTrial {
    pub user_id: String,
    pub item_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
}

/// Clerk Billing's payment attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClerkPaymentAttempt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DateTime<Utc>>,
    /// Item id → its `period_start` in this attempt.
    pub item_starts: BTreeMap<String, DateTime<Utc>>,
}

/// The rows of an adopted or imported database, by the names of their columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    pub imported_at: Option<DateTime<Utc>>,
    pub email: Option<String>,
    pub full_name: Option<String>,
    pub signup_timestamp: Option<DateTime<Utc>>,
    pub current_plan: Option<String>,
    pub intended_plan: Option<String>,
    pub subscription_status: Option<String>,
    pub trial_status: Option<String>,
    pub trial_start_date: Option<DateTime<Utc>>,
    pub trial_end_date: Option<DateTime<Utc>>,
    pub trial_conversion_date: Option<DateTime<Utc>>,
    pub subscription_cancel_date: Option<DateTime<Utc>>,
    pub subscription_renewal_date: Option<DateTime<Utc>>,
    pub stripe_customer_id: Option<String>,
    pub stripe_subscription_id: Option<String>,
    pub payment_method_id: Option<String>,
    pub card: Card,
    pub address: Address,
}
