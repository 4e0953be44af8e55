//! What a projection came upon beside the rows: things to ask the provider about, and things to tell a person.

use chrono::{DateTime, Utc};

use crate::domain::billing::customer_facts::Known;
use crate::domain::billing::stored::{Alert, Refetch};

/// Collected while the rows are made.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    refetch_pending: bool,
    not_understood: bool,
    payment_methods: Vec<String>,
    alerts: Vec<Alert>,
}

impl Findings {
    /// An object was read: while its newest snapshot is in doubt, so is the row.
    pub fn read<T>(&mut self, known: &Known<T>) {
        self.read_if(known.ambiguous);
    }

    /// Like [`Findings::read`], for an object of which only that is at hand.
    pub fn read_if(&mut self, ambiguous: bool) {
        self.refetch_pending |= ambiguous;
    }

    /// The provider names a payment method that was never seen: the row lacks its card until it is fetched.
    pub fn unknown_payment_method(&mut self, id: &str) {
        self.refetch_pending = true;
        self.payment_methods.push(id.to_owned());
    }

    /// No plan has the price of that subscription (or the slug of that Clerk item).
    pub fn unmapped_price(&mut self, subject: &str) {
        self.not_understood = true;
        self.alert("unmapped_price", subject);
    }

    /// That subscription's status is not among the documented ones.
    pub fn unknown_status(&mut self, subject: &str) {
        self.not_understood = true;
        self.alert("unknown_status", subject);
    }

    /// Something that a person should look at.
    pub fn alert(&mut self, name: &'static str, subject: &str) {
        self.alerts.push(Alert { name, subject: subject.to_owned() });
    }

    /// Whether the rows cannot be trusted until somebody acts.
    pub fn needs_reconcile(&self) -> bool {
        self.refetch_pending || self.not_understood
    }

    /// The objects to ask the provider about, and the alerts.
    pub fn into_parts(self, now: DateTime<Utc>) -> (Vec<Refetch>, Vec<Alert>) {
        let refetch = |object_id| Refetch { object_id, after: now, reason: "unknown_payment_method" };
        (self.payment_methods.into_iter().map(refetch).collect(), self.alerts)
    }
}
