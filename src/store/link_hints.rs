//! Which Clerk user a customer was linked to when a batch last looked: a guess at what the next batch will have to lock, which
//! saves it a round trip when it is right and locks one key too many when it is not. Never read as a fact.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::mem;

/// Links of one generation; two generations are kept.
const GENERATION: usize = 50_000;

/// Hashes of customers and the keys of the locks of their Clerk users, the least recently noted forgotten.
#[derive(Debug, Default)]
pub(super) struct LinkHints {
    newer: HashMap<u64, i32>,
    older: HashMap<u64, i32>,
}

impl LinkHints {
    pub(super) fn note(&mut self, customer_id: &str, clerk_key: i32) {
        self.newer.insert(hash(customer_id), clerk_key);
        if self.newer.len() >= GENERATION {
            self.older = mem::take(&mut self.newer);
        }
    }

    pub(super) fn clerk_key_of(&self, customer_id: &str) -> Option<i32> {
        let customer = hash(customer_id);
        self.newer.get(&customer).or_else(|| self.older.get(&customer)).copied()
    }
}

fn hash(customer_id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(customer_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_link_is_remembered_and_old_ones_are_forgotten() {
        let mut hints = LinkHints::default();
        hints.note("cus_a", 1);
        hints.note("cus_a", 2);
        assert_eq!(hints.clerk_key_of("cus_a"), Some(2));
        assert_eq!(hints.clerk_key_of("cus_b"), None);
        for n in 0..GENERATION {
            hints.note(&format!("cus_{n}"), 3);
        }
        assert_eq!(hints.clerk_key_of("cus_a"), Some(2), "of the generation before");
        for n in 0..GENERATION {
            hints.note(&format!("cus_{n}"), 3);
        }
        assert_eq!(hints.clerk_key_of("cus_a"), None);
        assert!(hints.newer.len() + hints.older.len() <= 2 * GENERATION);
    }
}
