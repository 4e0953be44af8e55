//! Loading what a batch can touch: first, under the locks of objects and customers, everything that says which Clerk users
//! are concerned; then, under theirs too, the rest. Each load tells what it found to be concerned without being locked.

mod concerned;
mod rows;
mod second;
pub(crate) mod sql;

use std::collections::{BTreeMap, BTreeSet};

pub use concerned::Concerned;
pub(crate) use concerned::references;
pub use second::{Second, load_second};

use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{OperatorLink, Owner, StoredObject};
use crate::domain::event::{ObjectKey, Provider};
use crate::store::error::StoreError;
use crate::store::facts::{Lookup, ObjectRow};
use crate::store::ledger::KnownEvent;
use crate::store::owners;
use crate::store::pool::Tx;

use rows::{Load, LoadedRow, bind_lookups};
use second::Late;
use sql::LOAD_FIRST;

/// What more has to be locked before a batch may go on. Nothing of it has been written yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub customers: BTreeSet<String>,
    pub clerk_ids: BTreeSet<String>,
    /// Something changed between the two loads: start again, with the same locks at least.
    pub again: bool,
}

impl Missing {
    /// Whether the locks suffice.
    pub fn is_nothing(&self) -> bool {
        self.customers.is_empty() && self.clerk_ids.is_empty() && !self.again
    }
}

/// The first load.
#[derive(Debug, Default)]
pub struct First {
    pub known: Vec<KnownEvent>,
    /// Every Clerk user concerned: to be locked before the second load.
    pub clerk_ids: BTreeSet<String>,
    pub missing: Missing,
    pub(crate) objects: BTreeMap<ObjectKey, StoredObject>,
    pub(crate) owners: BTreeMap<String, Owner>,
    pub(crate) operator_links: Vec<OperatorLink>,
    /// The addresses whose holders were looked for.
    pub(crate) emails: BTreeSet<String>,
    /// Of the catalog's rows.
    pub catalog_version: String,
    /// Which ids the second load asks for whether they are erased, by hash.
    pub id_hashes: BTreeSet<String>,
    /// What the second load need not read any more.
    late: Late,
}

/// Reads under the locks of objects and customers, and of the Clerk users expected.
pub async fn load_first(tx: &mut Tx, concerned: &Concerned) -> Result<First, StoreError> {
    let customers: Vec<&str> = concerned.customers.iter().map(String::as_str).collect();
    let named: Vec<&str> = concerned.customers.iter().chain(&concerned.clerk_ids).map(String::as_str).collect();
    let clocks: Vec<&str> = concerned.moved_clocks.iter().map(String::as_str).collect();
    let expected = concerned.expected();
    let lookups: Vec<&Lookup> = concerned.lookups.iter().chain(&expected.lookups).collect();
    let query: Load<'_> = tx.query_as(LOAD_FIRST);
    let query = query
        .bind(concerned.events.iter().map(|key| key.provider.as_str()).collect::<Vec<_>>())
        .bind(concerned.events.iter().map(|key| key.id.as_str()).collect::<Vec<_>>());
    let query = bind_lookups(query, &lookups)
        .bind(customers)
        .bind(named)
        .bind(clocks)
        .bind(concerned.object_ids())
        .bind(expected.clerk_ids.iter().map(String::as_str).collect::<Vec<_>>())
        .bind(expected.id_hashes.iter().map(String::as_str).collect::<Vec<_>>());

    let mut first = First { clerk_ids: concerned.clerk_ids.clone(), ..First::default() };
    let mut owners = Vec::new();
    for row in query.fetch_all(tx.connection()?).await? {
        match row {
            LoadedRow::Object(row) => first.keep_object(row),
            LoadedRow::Event(event) => first.known.push(event),
            LoadedRow::Owner(owner) => owners.push(owner),
            LoadedRow::Link(link) => first.operator_links.push(link),
            LoadedRow::Catalog(version) => first.catalog_version = version,
            late => first.late.keep(late),
        }
    }
    first.note_owners_of_lookups(concerned);
    if concerned.link_by_verified_email {
        let found = owners.iter().flat_map(|owner| owner.emails.iter().cloned());
        first.emails = found.chain(concerned.emails.iter().cloned()).collect();
        let emails: Vec<&str> = first.emails.iter().map(String::as_str).collect();
        owners.extend(owners::load_by_email(tx, &emails).await?);
    }
    first.note_owners(concerned, owners);
    first.note_evidence();
    Ok(first)
}

impl First {
    /// Whether rows of users are locked, and those of others still have to be: everybody locks them in one order.
    pub fn locks_out_of_order(&self, concerned: &Concerned) -> bool {
        let expected = &concerned.expected().clerk_ids;
        self.late.holds_rows() && !self.clerk_ids.is_subset(expected)
    }

    /// One row per key: the one that has the object itself, if there is one.
    fn keep_object(&mut self, row: ObjectRow) {
        let Some(object) = row.into_object() else { return };
        let has_object = |object: &StoredObject| object.winner.as_ref().is_some_and(|winner| winner.object.is_some());
        if self.objects.get(&object.key).is_none_or(|known| !has_object(known)) {
            self.objects.insert(object.key.clone(), object);
        }
    }

    fn keep_late_objects(&mut self, late: &mut Late) {
        late.objects.drain(..).for_each(|row| self.keep_object(row));
    }

    /// An object of the batch may be stored under an owner that the batch does not name.
    fn note_owners_of_lookups(&mut self, concerned: &Concerned) {
        for lookup in concerned.lookups.iter().filter(|lookup| lookup.key.account.is_empty()) {
            let Some(owner_id) = self.objects.get(&lookup.key).and_then(|object| object.owner_id.as_ref()) else { continue };
            match lookup.key.provider {
                Provider::Stripe if !concerned.customers.contains(owner_id) => self.missing.customers.insert(owner_id.clone()),
                Provider::Stripe => false,
                Provider::Clerk | Provider::Import => self.clerk_ids.insert(owner_id.clone()),
            };
        }
    }

    fn note_owners(&mut self, concerned: &Concerned, owners: Vec<Owner>) {
        // A customer that has an address of a user whose snapshot is in the batch may change hands.
        let of_users = owners.iter().filter(|owner| concerned.users.contains(&owner.owner_id));
        let moved: BTreeSet<String> =
            of_users.flat_map(|owner| owner.emails.iter()).chain(&concerned.user_emails).cloned().collect();
        for owner in owners {
            self.note_owner(concerned, &owner, &moved);
            self.owners.insert(owner.owner_id.clone(), owner);
        }
    }

    fn note_owner(&mut self, concerned: &Concerned, owner: &Owner, moved_emails: &BTreeSet<String>) {
        self.clerk_ids.extend(owner.clerk_user_id.clone());
        if is_clerk_user(concerned, owner) {
            self.clerk_ids.insert(owner.owner_id.clone());
        } else {
            let lives_by_moved = owner.test_clock.as_ref().is_some_and(|clock| concerned.moved_clocks.contains(clock));
            let may_move = owner.emails.iter().any(|email| moved_emails.contains(email));
            if (lives_by_moved || may_move) && !concerned.customers.contains(&owner.owner_id) {
                self.missing.customers.insert(owner.owner_id.clone());
            }
        }
        note_claims(concerned, owner, &mut self.missing);
    }

    /// Whoever is named by a fact of a customer or by the operator may gain or lose it.
    fn note_evidence(&mut self) {
        let named = self.objects.values().filter_map(|object| named_user(object.fact.as_deref()?));
        let named: Vec<String> = named.map(str::to_owned).collect();
        self.clerk_ids.extend(named);
        self.clerk_ids.extend(self.operator_links.iter().filter_map(|link| link.clerk_user_id.clone()));
    }
}

/// A Clerk user's row: it claims a customer, was named as one, or has the form of one.
fn is_clerk_user(concerned: &Concerned, owner: &Owner) -> bool {
    owner.claimed_customer_id.is_some()
        || owner.imported_customer_id.is_some()
        || concerned.clerk_ids.contains(&owner.owner_id)
        || owner.owner_id.starts_with("user_")
}

/// A user whose snapshot is in the batch may give up the customer that it claimed until now.
fn note_claims(concerned: &Concerned, owner: &Owner, missing: &mut Missing) {
    if concerned.users.contains(&owner.owner_id) {
        let claims = [&owner.claimed_customer_id, &owner.imported_customer_id].into_iter().flatten();
        missing.customers.extend(claims.filter(|customer| !concerned.customers.contains(*customer)).cloned());
    }
}

/// The Clerk user that a fact names as evidence of a link.
fn named_user(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Customer(fact) => fact.clerk_user_id.as_deref(),
        Fact::Subscription(fact) => fact.clerk_user_id.as_deref(),
        Fact::CheckoutSession(fact) => fact.clerk_user_id.as_deref(),
        Fact::PaymentIntent(fact) => fact.clerk_user_id.as_deref(),
        Fact::Invoice(fact) => fact.clerk_user_id.as_deref(),
        _ => None,
    }
}
