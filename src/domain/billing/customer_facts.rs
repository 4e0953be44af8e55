//! The facts of one Stripe customer and of one Clerk payer, by kind: what linking and projection read. Kept up to date one
//! object at a time, so that an event costs the same whether the customer has ten invoices or ten thousand.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::domain::billing::facts::{
    CheckoutSession, ClerkItem, ClerkItemTrial, ClerkPaymentAttempt, Customer, Fact, PaymentIntent, PaymentMethod, Subscription,
    SubscriptionSchedule,
};
use crate::domain::billing::invoice_index::InvoiceIndex;
use crate::domain::billing::stored::StoredObject;

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
    /// Whether any Stripe object that the projection reads has named this customer: [`Owner::has_facts`].
    ///
    /// [`Owner::has_facts`]: crate::domain::billing::stored::Owner::has_facts
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

impl CustomerFacts {
    /// Nothing known yet of that customer.
    pub fn new(customer_id: &str) -> CustomerFacts {
        CustomerFacts { customer_id: customer_id.to_owned(), ..CustomerFacts::default() }
    }

    /// Takes an object that belongs to this customer, in place of what it was before.
    pub fn insert(&mut self, object: &StoredObject) {
        if object.object_type == "customer" {
            self.deleted_at = object.deleted_at;
        }
        let id = &object.key.object_id;
        match object.fact.as_deref() {
            Some(Fact::Customer(fact)) => self.customer = Some(known(object, fact)),
            Some(Fact::Subscription(fact)) => put(&mut self.subscriptions, object, fact),
            Some(Fact::SubscriptionSchedule(fact)) => put(&mut self.schedules, object, fact),
            Some(Fact::PaymentMethod(fact)) => {
                let attached = fact.customer.as_ref() == Some(&self.customer_id) && !fact.detached && object.deleted_at.is_none();
                if attached && fact.card.is_some() {
                    self.attached_cards.insert(id.clone());
                } else {
                    self.attached_cards.remove(id);
                }
                put(&mut self.payment_methods, object, fact);
            }
            Some(Fact::CheckoutSession(fact)) => put(&mut self.sessions, object, fact),
            Some(Fact::PaymentIntent(fact)) => put(&mut self.payment_intents, object, fact),
            Some(Fact::Invoice(fact)) => {
                let fact = if fact.is_deleted(object.deleted_at) { None } else { Some(fact.clone()) };
                self.invoices.insert(id, fact);
            }
            _ => {}
        }
    }

    /// The test clock that the customer lives by: its own, else that of a subscription.
    pub fn test_clock(&self) -> Option<&String> {
        let own = self.customer.as_ref().and_then(|known| known.fact.test_clock.as_ref());
        own.or_else(|| self.subscriptions.values().find_map(|known| known.fact.test_clock.as_ref()))
    }

    /// Forgets an object that belongs to another owner.
    pub fn remove(&mut self, id: &str, fact: &Fact) {
        match fact {
            Fact::Subscription(_) => drop(self.subscriptions.remove(id)),
            Fact::SubscriptionSchedule(_) => drop(self.schedules.remove(id)),
            Fact::PaymentMethod(_) => {
                self.attached_cards.remove(id);
                self.payment_methods.remove(id);
            }
            Fact::CheckoutSession(_) => drop(self.sessions.remove(id)),
            Fact::PaymentIntent(_) => drop(self.payment_intents.remove(id)),
            Fact::Invoice(_) => self.invoices.insert(id, None),
            _ => {}
        }
    }
}

impl ClerkFacts {
    /// Takes an object that belongs to this payer.
    pub fn insert(&mut self, object: &StoredObject) {
        match object.fact.as_deref() {
            Some(Fact::ClerkItem(fact)) => put(&mut self.items, object, fact),
            Some(Fact::ClerkItemTrial(fact)) => {
                self.trials.insert(fact.item_id.clone(), known(object, fact));
            }
            Some(Fact::ClerkPaymentAttempt(fact)) => put(&mut self.attempts, object, fact),
            _ => {}
        }
    }

    /// Forgets an object that belongs to another payer.
    pub fn remove(&mut self, id: &str, fact: &Fact) {
        match fact {
            Fact::ClerkItem(_) => drop(self.items.remove(id)),
            Fact::ClerkItemTrial(fact) => drop(self.trials.remove(&fact.item_id)),
            Fact::ClerkPaymentAttempt(_) => drop(self.attempts.remove(id)),
            _ => {}
        }
    }
}

/// The object's fact with what the projection needs to know of the object itself.
pub fn known<T: Clone>(object: &StoredObject, fact: &T) -> Known<T> {
    Known {
        object_id: object.key.object_id.clone(),
        fact: fact.clone(),
        deleted_at: object.deleted_at,
        ambiguous: object.ambiguous,
    }
}

fn put<T: Clone>(map: &mut BTreeMap<String, Known<T>>, object: &StoredObject, fact: &T) {
    map.insert(object.key.object_id.clone(), known(object, fact));
}
