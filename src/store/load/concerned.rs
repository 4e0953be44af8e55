//! What a batch names, read off its events alone: what to lock and what to look up first.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;

use super::{Missing, named_user};
use crate::domain::billing::facts::Fact;
use crate::domain::event::{Event, EventId, ObjectKey, Provider, Snapshot};
use crate::domain::rules::Rules;
use crate::store::facts::{Lookup, TrialEnd};
use crate::store::hints::Hinted;
use crate::store::locks::LockSet;
use crate::store::pool::Store;

/// How long before a trial's end the line of a conversion may start.
pub(crate) const CONVERSION_GRACE: TimeDelta = TimeDelta::seconds(60);

/// Everything that the events of a batch name, and what earlier attempts found to be concerned too.
#[derive(Clone, Debug, Default)]
pub struct Concerned {
    pub(crate) events: Vec<EventId>,
    /// The objects of the snapshots, but for Clerk users and imports.
    pub(crate) lookups: Vec<Lookup>,
    /// Clerk users and imports among the objects: locked, and so read, with the Clerk users.
    pub(crate) late_lookups: Vec<Lookup>,
    pub(crate) customers: BTreeSet<String>,
    pub(crate) clerk_ids: BTreeSet<String>,
    /// Customers beside whom an event names a Clerk user, whose they probably are.
    claimed: BTreeSet<String>,
    /// The Clerk users whose own snapshot (or import) is in the batch: their claims may change.
    pub(crate) users: BTreeSet<String>,
    /// Test clocks that an event is about.
    pub(crate) moved_clocks: BTreeSet<String>,
    /// Addresses of the batch's customers and users; empty unless addresses link.
    pub(crate) emails: BTreeSet<String>,
    pub(crate) user_emails: BTreeSet<String>,
    pub(crate) link_by_verified_email: bool,
    pub(crate) trials: BTreeSet<TrialEnd>,
    /// Payment methods and test clocks that the snapshots refer to.
    pub(crate) references: BTreeSet<String>,
    locks: LockSet,
    expected: Expected,
}

/// What the second load will ask for, as far as that is known before the first, which asks for it instead. All of it is read
/// under the locks that are taken before the first load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub clerk_ids: BTreeSet<String>,
    /// Clerk users and imports among the objects, and what is referred to.
    pub lookups: Vec<Lookup>,
    pub id_hashes: BTreeSet<String>,
}

impl Concerned {
    /// Reads the events.
    pub fn new(events: &[Arc<Event>], rules: &Rules) -> Concerned {
        let mut concerned = Concerned { link_by_verified_email: rules.link_by_verified_email, ..Concerned::default() };
        for event in events {
            concerned.add_event(event);
        }
        for customer in &concerned.customers {
            concerned.locks.add_object(customer);
        }
        for clerk_id in &concerned.clerk_ids {
            concerned.locks.add_clerk_id(clerk_id);
        }
        concerned
    }

    /// Without an event: users to re-project and customers to link anew.
    pub fn of_accounts(customers: &[String], clerk_ids: &[String], rules: &Rules) -> Concerned {
        let mut concerned = Concerned { link_by_verified_email: rules.link_by_verified_email, ..Concerned::default() };
        concerned.widen(&Missing {
            customers: customers.iter().cloned().collect(),
            clerk_ids: clerk_ids.iter().cloned().collect(),
            again: false,
        });
        concerned
    }

    /// Takes in objects that are to be read by their keys, whatever they are indexed by.
    pub fn read_singly(&mut self, objects: &[ObjectKey]) {
        for key in objects {
            self.locks.add_object(&key.object_id);
            self.lookups.push(Lookup { key: key.clone(), order: None });
        }
    }

    /// Takes in what an attempt found missing.
    pub fn widen(&mut self, missing: &Missing) {
        for customer in &missing.customers {
            self.locks.add_object(customer);
        }
        for clerk_id in &missing.clerk_ids {
            self.locks.add_clerk_id(clerk_id);
        }
        self.customers.extend(missing.customers.iter().cloned());
        self.clerk_ids.extend(missing.clerk_ids.iter().cloned());
    }

    /// Has the first load read what the second would, as far as it is known: the Clerk users who are named and those whose the
    /// customers were when last seen, and what their facts referred to. They are locked with the first locks. Not for whoever
    /// writes between the loads; and not with customers of whom nothing is known: users' rows are locked in one order, which
    /// two loads would not keep. `id_hashes` tells, of the users expected, which ids may be erased.
    pub fn foresee(&mut self, store: &Store, id_hashes: impl FnOnce(&Concerned, &BTreeSet<String>) -> BTreeSet<String>) {
        let hints = store.hints_of(self.customers.iter().map(String::as_str));
        let Hinted { clerk_ids: hinted, references: further, unknown } = hints;
        for clerk_id in &hinted {
            self.locks.add_clerk_id(clerk_id);
        }
        if !unknown.is_subset(&self.claimed) {
            self.expected = Expected::default();
            return;
        }
        let clerk_ids: BTreeSet<String> = self.clerk_ids.iter().cloned().chain(hinted).collect();
        let referred = self.references.union(&further).map(|id| Lookup { key: stripe_key(id), order: None });
        let lookups = self.late_lookups.iter().cloned().chain(referred).collect();
        let id_hashes = id_hashes(self, &clerk_ids);
        self.expected = Expected { clerk_ids, lookups, id_hashes };
    }

    /// What the first load reads for the second.
    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// What to lock before the first load; the Clerk users that it finds come on top.
    pub fn locks(&self) -> &LockSet {
        &self.locks
    }

    /// Whether the customer is locked.
    pub fn has_customer(&self, customer_id: &str) -> bool {
        self.customers.contains(customer_id)
    }

    /// The customers that are locked.
    pub fn customer_ids(&self) -> impl Iterator<Item = &str> {
        self.customers.iter().map(String::as_str)
    }

    /// The ids of the account's own Stripe objects that the snapshots are of: they are read by key, and by nothing else.
    pub(crate) fn object_ids(&self) -> Vec<&str> {
        let keys = self.lookups.iter().map(|lookup| &lookup.key);
        keys.filter(|key| key.provider == Provider::Stripe && key.account.is_empty()).map(|key| key.object_id.as_str()).collect()
    }

    fn add_event(&mut self, event: &Event) {
        self.events.push(event.key());
        for snapshot in event.snapshots() {
            self.add_snapshot(snapshot);
        }
        // A repeated event has to wait for the first; a Clerk user's object is locked too late for that.
        let is_user = event.snapshots().iter().any(|snapshot| is_clerk_user(&snapshot.key, snapshot));
        match &event.object_id {
            Some(object_id) if !is_user => self.locks.add_object(object_id),
            _ => self.locks.add_object(&event.id),
        }
        if !event.account.is_empty() {
            return;
        }
        self.customers.extend(event.customer_ids.iter().cloned());
        if !event.clerk_user_ids.is_empty() {
            self.claimed.extend(event.customer_ids.iter().cloned());
        }
        self.clerk_ids.extend(event.clerk_user_ids.iter().cloned());
        self.add_owner(event.provider, event.owner_id.as_deref());
    }

    fn add_snapshot(&mut self, snapshot: &Snapshot) {
        let order = snapshot.object.as_ref().map(|_| (snapshot.terminal, snapshot.as_of));
        let lookup = Lookup { key: snapshot.key.clone(), order };
        if is_clerk_user(&snapshot.key, snapshot) {
            self.users.insert(snapshot.key.object_id.clone());
            self.clerk_ids.insert(snapshot.key.object_id.clone());
            self.late_lookups.push(lookup);
        } else {
            self.locks.add_object(&snapshot.key.object_id);
            self.lookups.push(lookup);
        }
        if snapshot.key.account.is_empty() {
            self.add_owner(snapshot.key.provider, snapshot.owner_id.as_deref());
            if let Some(fact) = snapshot.fact.as_deref() {
                self.add_fact(snapshot, fact);
            }
        }
    }

    fn add_owner(&mut self, provider: Provider, owner_id: Option<&str>) {
        let Some(owner_id) = owner_id else { return };
        match provider {
            Provider::Stripe => self.customers.insert(owner_id.to_owned()),
            Provider::Clerk | Provider::Import => self.clerk_ids.insert(owner_id.to_owned()),
        };
    }

    fn add_fact(&mut self, snapshot: &Snapshot, fact: &Fact) {
        self.clerk_ids.extend(named_user(fact).map(str::to_owned));
        self.references.extend(references(fact).map(str::to_owned));
        if let Some(clock) = test_clock(fact) {
            // Whoever begins to live by a clock and whoever moves it have to see each other.
            self.locks.add_object(clock);
        }
        match fact {
            Fact::TestClock(_) => {
                self.moved_clocks.insert(snapshot.key.object_id.clone());
            }
            Fact::Customer(customer) => self.add_emails(customer.email.as_slice(), false),
            Fact::ClerkUser(user) => {
                self.customers.extend(user.stripe_customer_id.clone());
                self.add_emails(&user.verified_emails, true);
            }
            Fact::Import(import) => self.customers.extend(import.stripe_customer_id.clone()),
            _ => {}
        }
        self.trials.extend(trial_end(snapshot.owner_id.as_deref(), &snapshot.key.object_id, fact));
    }

    /// Two first appearances of one address, a customer's and a user's, have to see each other.
    fn add_emails(&mut self, emails: &[String], of_user: bool) {
        if !self.link_by_verified_email {
            return;
        }
        for email in emails {
            self.locks.add_object(&format!("email:{email}"));
            self.emails.insert(email.clone());
            if of_user {
                self.user_emails.insert(email.clone());
            }
        }
    }
}

/// The key of an object of the account itself.
pub(crate) fn stripe_key(object_id: &str) -> ObjectKey {
    ObjectKey { provider: Provider::Stripe, account: String::new(), object_id: object_id.to_owned() }
}

/// Objects whose id is a Clerk user's.
fn is_clerk_user(key: &ObjectKey, snapshot: &Snapshot) -> bool {
    match key.provider {
        Provider::Stripe => false,
        Provider::Clerk => snapshot.object_type == "user",
        Provider::Import => true,
    }
}

/// The payment methods and test clocks that a fact refers to.
pub(crate) fn references(fact: &Fact) -> impl Iterator<Item = &str> {
    let [method, source] = match fact {
        Fact::Customer(fact) => [&fact.default_payment_method, &fact.default_source],
        Fact::Subscription(fact) => [&fact.default_payment_method, &fact.default_source],
        _ => [&None, &None],
    };
    [method.as_deref(), source.as_deref(), test_clock(fact)].into_iter().flatten()
}

fn test_clock(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Customer(fact) => fact.test_clock.as_deref(),
        Fact::Subscription(fact) => fact.test_clock.as_deref(),
        Fact::SubscriptionSchedule(fact) => fact.test_clock.as_deref(),
        _ => None,
    }
}

/// The question that a subscription's trial puts to its invoices.
pub(crate) fn trial_end(owner_id: Option<&str>, subscription: &str, fact: &Fact) -> Option<TrialEnd> {
    let Fact::Subscription(trial) = fact else { return None };
    let since = trial.trial_end?.checked_sub_signed(CONVERSION_GRACE)?;
    let customer_id = owner_id.unwrap_or(&trial.customer).to_owned();
    Some(TrialEnd { customer_id, subscription: subscription.to_owned(), since })
}
