//! Whose a customer was and what its facts referred to when a batch last looked: a guess at what the next batch will have to
//! lock and read, which saves it round trips when it is right and costs a key and a row too many when it is not. Never read
//! as a fact.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::mem;

use crate::domain::billing::stored::{Loaded, Owner};
use crate::domain::erasure::is_clerk_user;
use crate::store::load::references;

/// Customers of one generation; two generations are kept.
const GENERATION: usize = 25_000;

/// What is remembered of a customer. One who is nobody's is remembered, too, so that a former owner is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hint {
    clerk_id: Option<Box<str>>,
    /// Payment methods and test clocks.
    references: Box<[Box<str>]>,
}

/// What is remembered of the customers of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hinted {
    pub clerk_ids: BTreeSet<String>,
    pub references: BTreeSet<String>,
    /// Customers of whom nothing is remembered.
    pub unknown: BTreeSet<String>,
}

/// Hints by the hashes of customers, the least recently noted forgotten.
#[derive(Debug, Default)]
pub(super) struct Hints {
    newer: HashMap<u64, Hint>,
    older: HashMap<u64, Hint>,
}

impl Hints {
    /// Notes whom the owners belong to and what the facts refer to that were loaded with them.
    pub(super) fn note(&mut self, loaded: &Loaded) {
        let mut by_owner: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for object in loaded.objects.iter().filter(|object| object.key.account.is_empty()) {
            if let (Some(owner_id), Some(fact)) = (&object.owner_id, object.fact.as_deref()) {
                by_owner.entry(owner_id).or_default().extend(references(fact));
            }
        }
        for owner in loaded.owners.iter().filter(|owner| !is_clerk_user(&owner.owner_id)) {
            let mut references = by_owner.remove(owner.owner_id.as_str()).unwrap_or_default();
            references.extend(owner.test_clock.as_deref());
            let references = references.into_iter().map(Box::from).collect();
            self.keep(&owner.owner_id, Hint { clerk_id: clerk_id_of(owner), references });
        }
    }

    /// Notes whom an owner belongs to from now on.
    pub(super) fn note_link(&mut self, owner: &Owner) {
        if !is_clerk_user(&owner.owner_id) {
            let known = self.find(&owner.owner_id).cloned().unwrap_or_default();
            self.keep(&owner.owner_id, Hint { clerk_id: clerk_id_of(owner), ..known });
        }
    }

    /// What is remembered of these customers.
    pub(super) fn of<'a>(&self, customers: impl Iterator<Item = &'a str>) -> Hinted {
        let mut hinted = Hinted::default();
        for customer in customers {
            let Some(hint) = self.find(customer) else {
                hinted.unknown.insert(customer.to_owned());
                continue;
            };
            hinted.clerk_ids.extend(hint.clerk_id.as_deref().map(str::to_owned));
            hinted.references.extend(hint.references.iter().map(|id| id.as_ref().to_owned()));
        }
        hinted
    }

    fn keep(&mut self, customer_id: &str, hint: Hint) {
        self.newer.insert(hash(customer_id), hint);
        if self.newer.len() >= GENERATION {
            self.older = mem::take(&mut self.newer);
        }
    }

    fn find(&self, customer_id: &str) -> Option<&Hint> {
        let customer = hash(customer_id);
        self.newer.get(&customer).or_else(|| self.older.get(&customer))
    }
}

fn clerk_id_of(owner: &Owner) -> Option<Box<str>> {
    owner.clerk_user_id.as_deref().map(Box::from)
}

fn hash(customer_id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(customer_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(customer_id: &str, clerk_id: &str) -> Owner {
        Owner { owner_id: customer_id.to_owned(), clerk_user_id: Some(clerk_id.to_owned()), ..Owner::default() }
    }

    fn clerk_ids(hints: &Hints, customer_id: &str) -> Vec<String> {
        hints.of([customer_id].into_iter()).clerk_ids.into_iter().collect()
    }

    #[test]
    fn the_newest_link_is_remembered_and_old_ones_are_forgotten() {
        let mut hints = Hints::default();
        hints.note_link(&linked("cus_a", "user_1"));
        hints.note_link(&linked("cus_a", "user_2"));
        assert_eq!(clerk_ids(&hints, "cus_a"), ["user_2"]);
        assert_eq!(clerk_ids(&hints, "cus_b"), [""; 0]);
        for n in 0..GENERATION {
            hints.note_link(&linked(&format!("cus_{n}"), "user_3"));
        }
        assert_eq!(clerk_ids(&hints, "cus_a"), ["user_2"], "of the generation before");
        for n in 0..GENERATION {
            hints.note_link(&linked(&format!("cus_{n}"), "user_3"));
        }
        assert_eq!(clerk_ids(&hints, "cus_a"), [""; 0]);
        assert!(hints.newer.len() + hints.older.len() <= 2 * GENERATION);
    }

    #[test]
    fn one_who_is_nobodys_by_now_is_known_to_be_so() {
        let mut hints = Hints::default();
        let asked = || ["cus_a", "cus_b"].into_iter();
        assert_eq!(hints.of(asked()).unknown, BTreeSet::from(["cus_a".to_owned(), "cus_b".to_owned()]));
        hints.note_link(&linked("cus_a", "user_1"));
        hints.note(&Loaded { owners: vec![Owner { clerk_user_id: None, ..linked("cus_a", "") }], ..Loaded::default() });
        let hinted = hints.of(asked());
        assert_eq!((hinted.clerk_ids, hinted.unknown), (BTreeSet::new(), BTreeSet::from(["cus_b".to_owned()])));
    }
}
