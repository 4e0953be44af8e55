//! Keeps what linking and projection read (facts by customer, owner rows, relations) in step with the objects.

use crate::domain::billing::accounts::{Accounts, Touched};
use crate::domain::billing::customer_facts::{CustomerFacts, known};
use crate::domain::billing::facts::{ClerkUser, Fact, is_projected_type};
use crate::domain::billing::stored::{Owner, StoredObject};
use crate::domain::event::Provider;
use crate::domain::rules::Rules;

impl Accounts {
    /// Puts the object where linking and projection look for it.
    pub(super) fn index(&mut self, object: &StoredObject) {
        let id = &object.key.object_id;
        match (object.key.provider, object.fact.as_deref()) {
            (Provider::Stripe, Some(Fact::TestClock(clock))) => {
                if let Some(frozen_time) = clock.frozen_time {
                    self.clocks.insert(id.clone(), frozen_time);
                }
            }
            (Provider::Stripe, _) => {
                if let Some(owner) = object.owner_id.as_deref().filter(|_| is_projected_type(&object.object_type)) {
                    self.customer_mut(owner).insert(object);
                }
            }
            (Provider::Clerk, Some(Fact::ClerkUser(user))) => {
                self.clerk_users.insert(id.clone(), known(object, user));
            }
            (Provider::Clerk, None) if object.object_type == "user" && object.deleted_at.is_some() => {
                self.clerk_users.insert(id.clone(), known(object, &ClerkUser::default()));
            }
            (Provider::Clerk, Some(_)) => {
                if let Some(owner) = &object.owner_id {
                    self.payers.entry_ref(owner.as_str()).or_default().insert(object);
                }
            }
            (Provider::Import, Some(Fact::Import(import))) => {
                self.imports.insert(id.clone(), import.as_ref().clone());
            }
            _ => {}
        }
    }

    pub(super) fn unindex(&mut self, owner: &str, object_id: &str, fact: &Fact) {
        if let Some(customer) = self.customers.get_mut(owner) {
            customer.remove(object_id, fact);
        }
        if let Some(payer) = self.payers.get_mut(owner) {
            payer.remove(object_id, fact);
        }
    }

    pub(super) fn customer_mut(&mut self, customer_id: &str) -> &mut CustomerFacts {
        self.customers.entry_ref(customer_id).or_insert_with(|| CustomerFacts::new(customer_id))
    }

    /// Copies to the owner row what others are found by, and touches whoever is found by the old or the new value.
    pub(super) fn update_owner(&mut self, object: &StoredObject, touched: &mut Touched, rules: &Rules) {
        let id = object.key.object_id.as_str();
        match object.fact.as_deref() {
            Some(Fact::Customer(customer)) => {
                if self.owners.get(id).is_none_or(|owner| !owner.emails.iter().eq(&customer.email)) {
                    self.change_owner(id, |owner| owner.emails = customer.email.iter().cloned().collect());
                }
                self.update_clock(id);
            }
            Some(Fact::Subscription(subscription)) => self.update_clock(&subscription.customer),
            Some(Fact::ClerkUser(user)) => {
                let before = self.owners.get(id).cloned().unwrap_or_default();
                self.change_owner(id, |owner| {
                    owner.emails.clone_from(&user.verified_emails);
                    owner.claimed_customer_id.clone_from(&user.stripe_customer_id);
                });
                touched.customers.extend([before.claimed_customer_id, user.stripe_customer_id.clone()].into_iter().flatten());
                if rules.link_by_verified_email {
                    for email in before.emails.iter().chain(&user.verified_emails) {
                        touched.customers.extend(self.relations.customers_by_email.get(email).into_iter().flatten().cloned());
                    }
                }
            }
            Some(Fact::Import(import)) => {
                let before = self.owners.get(id).and_then(|owner| owner.imported_customer_id.clone());
                self.change_owner(id, |owner| owner.imported_customer_id.clone_from(&import.stripe_customer_id));
                touched.customers.extend([before, import.stripe_customer_id.clone()].into_iter().flatten());
            }
            Some(Fact::TestClock(_)) => {
                touched.customers.extend(self.relations.customers_by_clock.get(id).into_iter().flatten().cloned());
            }
            _ => {}
        }
    }

    /// A customer lives by its own test clock, else by that of a subscription.
    fn update_clock(&mut self, customer_id: &str) {
        let clock = self.customers.get(customer_id).and_then(CustomerFacts::test_clock).cloned();
        if self.owners.get(customer_id).and_then(|owner| owner.test_clock.as_ref()) != clock.as_ref() {
            self.change_owner(customer_id, |owner| owner.test_clock = clock);
        }
    }

    pub(super) fn change_owner(&mut self, owner_id: &str, change: impl FnOnce(&mut Owner)) {
        let nothing = || Owner { owner_id: owner_id.to_owned(), ..Owner::default() };
        let owner = self.owners.entry_ref(owner_id).or_insert_with(nothing);
        self.relations.remove(owner);
        change(owner);
        self.relations.add(owner);
    }
}
