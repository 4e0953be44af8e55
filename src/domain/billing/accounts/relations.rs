//! Who is related to whom, read off the owner rows: so that a change of a claim, an address or a test clock finds the
//! customers that it concerns without looking at all of them.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::domain::billing::stored::Owner;

type Sets = HashMap<String, BTreeSet<String>>;

/// Reverse indexes over owner rows.
#[derive(Clone, Debug, Default)]
pub struct Relations {
    /// Customer → the Clerk users whose metadata claims it.
    pub claimed_by: Sets,
    /// Customer → the Clerk users whose import fact names it.
    pub imported_by: Sets,
    /// Address → the live Clerk users that have it verified.
    pub verified_by: Sets,
    /// Address → the customers that have it.
    pub customers_by_email: Sets,
    /// Test clock → the customers that live by it.
    pub customers_by_clock: Sets,
    /// Clerk user → the customers linked to it.
    pub customers_of: Sets,
}

impl Relations {
    /// Takes an owner row in.
    pub fn add(&mut self, owner: &Owner) {
        self.each(owner, |sets, key, id| {
            sets.entry_ref(key).or_default().insert(id.to_owned());
        });
    }

    /// Takes an owner row out, before it changes.
    pub fn remove(&mut self, owner: &Owner) {
        self.each(owner, |sets, key, id| {
            if let Some(set) = sets.get_mut(key) {
                set.remove(id);
                if set.is_empty() {
                    sets.remove(key);
                }
            }
        });
    }

    fn each(&mut self, owner: &Owner, mut visit: impl FnMut(&mut Sets, &str, &str)) {
        let id = owner.owner_id.as_str();
        if let Some(customer) = &owner.claimed_customer_id {
            visit(&mut self.claimed_by, customer, id);
        }
        if let Some(customer) = &owner.imported_customer_id {
            visit(&mut self.imported_by, customer, id);
        }
        if let Some(clock) = &owner.test_clock {
            visit(&mut self.customers_by_clock, clock, id);
        }
        if let Some(user) = &owner.clerk_user_id {
            visit(&mut self.customers_of, user, id);
        }
        let by_email = if is_clerk_user(id) { &mut self.verified_by } else { &mut self.customers_by_email };
        for email in &owner.emails {
            visit(by_email, email, id);
        }
    }
}

/// Clerk's user ids begin with `user_`, Stripe's customer ids never do.
pub fn is_clerk_user(owner_id: &str) -> bool {
    owner_id.starts_with("user_")
}
