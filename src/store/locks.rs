//! Advisory transaction locks: what makes two batches that concern the same account follow one another. Taken in classes,
//! lower ones first, and within a class in ascending order, so that no two batches wait for each other.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Advisory lock classes are shared by the whole database: these keep clear of the small numbers that others use.
const CATALOG_CLASS: i32 = 0x6273_0000;
const OBJECT_CLASS: i32 = CATALOG_CLASS + 1;
pub(crate) const CLERK_CLASS: i32 = CATALOG_CLASS + 2;

/// What a batch locks. Ids are hashed and the hashes sorted: sorting by id deadlocks when two ids share a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockSet {
    objects: BTreeSet<i32>,
    clerk_ids: BTreeSet<i32>,
}

impl LockSet {
    /// Adds an object's or customer's id (or whatever else no two batches may write at once).
    pub fn add_object(&mut self, id: &str) {
        self.objects.insert(hash32(id));
    }

    /// Adds a Clerk user's id.
    pub fn add_clerk_id(&mut self, id: &str) {
        self.clerk_ids.insert(hash32(id));
    }

    /// Whether the object or customer is locked.
    pub fn has_object(&self, id: &str) -> bool {
        self.objects.contains(&hash32(id))
    }

    /// Whether the Clerk user is locked.
    pub fn has_clerk_id(&self, id: &str) -> bool {
        self.clerk_ids.contains(&hash32(id))
    }

    /// The keys of those Clerk users that are not among these locks, in their order.
    pub(crate) fn further_clerk_keys(&self, clerk_ids: &BTreeSet<String>) -> Vec<i32> {
        let keys: BTreeSet<i32> = clerk_ids.iter().map(|id| hash32(id)).collect();
        keys.difference(&self.clerk_ids).copied().collect()
    }

    /// Whether a Clerk user is among these locks.
    pub(crate) fn has_clerk_keys(&self) -> bool {
        !self.clerk_ids.is_empty()
    }

    /// The catalog shared, then objects and customers, then the Clerk users that are known beforehand: a statement each, since
    /// a statement sees what was committed when it began, not when it got its lock.
    pub(crate) fn first_sql(&self) -> String {
        let mut sql = format!("select pg_catalog.pg_advisory_xact_lock_shared({CATALOG_CLASS}, 0)");
        push_locks(&mut sql, OBJECT_CLASS, self.objects.iter());
        push_locks(&mut sql, CLERK_CLASS, self.clerk_ids.iter());
        sql
    }
}

/// Takes Clerk users by their keys, in the order given.
pub(crate) fn clerk_keys_sql(keys: &[i32]) -> String {
    let mut sql = String::new();
    push_locks(&mut sql, CLERK_CLASS, keys.iter());
    sql
}

/// Takes the catalog alone, for whoever changes plans.
pub(crate) fn catalog_exclusive_sql() -> String {
    format!("select pg_catalog.pg_advisory_xact_lock({CATALOG_CLASS}, 0)")
}

fn push_locks<'a>(sql: &mut String, class: i32, keys: impl ExactSizeIterator<Item = &'a i32>) {
    if keys.len() == 0 {
        return;
    }
    let separator = if sql.is_empty() { "" } else { "; " };
    let mut list = String::with_capacity(keys.len() * 12);
    for key in keys {
        // Writing to a string cannot fail.
        let _ = write!(list, "{}{key}", if list.is_empty() { "" } else { "," });
    }
    let _ = write!(
        sql,
        "{separator}select count(pg_catalog.pg_advisory_xact_lock({class}, key)) \
         from pg_catalog.unnest('{{{list}}}'::pg_catalog.int4[]) key"
    );
}

/// FNV-1a with a final mix: the same in every process and every release, which `std`'s hasher does not promise.
fn hash32(id: &str) -> i32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in id.as_bytes() {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_by_hash_and_taken_once() {
        let mut locks = LockSet::default();
        for id in ["cus_b", "cus_a", "sub_1", "cus_a"] {
            locks.add_object(id);
        }
        let mut hashes = [hash32("cus_a"), hash32("cus_b"), hash32("sub_1")];
        hashes.sort_unstable();
        let list = hashes.map(|hash| hash.to_string()).join(",");
        assert!(locks.first_sql().contains(&format!("'{{{list}}}'")), "{}", locks.first_sql());
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(hash32(""), hash32(""));
        assert_eq!(hash32("cus_1"), -1_700_652_179);
    }

    #[test]
    fn clerk_users_come_last_and_only_further_ones_remain() {
        let mut locks = LockSet::default();
        assert_eq!(clerk_keys_sql(&locks.further_clerk_keys(&BTreeSet::new())), "");
        locks.add_clerk_id("user_a");
        locks.add_object("cus_a");
        let sql = locks.first_sql();
        assert!(sql.find(&hash32("cus_a").to_string()) < sql.find(&hash32("user_a").to_string()), "{sql}");
        let concerned = BTreeSet::from(["user_a".to_owned(), "user_b".to_owned()]);
        assert_eq!(locks.further_clerk_keys(&concerned), [hash32("user_b")]);
    }
}
