//! The second load: everything of the Clerk users concerned, and what the facts refer to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::concerned::{references, trial_end};
use super::{Concerned, First, Missing, note_claims};
use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{InvoiceSummary, Loaded, Owner, StoredObject};
use crate::domain::event::{ObjectKey, Provider};
use crate::store::error::StoreError;
use crate::store::facts::{self, Lookup, TrialEnd};
use crate::store::pool::Tx;
use crate::store::{owners, users};

/// Everything that the fold needs, and how the users' rows are found again.
#[derive(Debug, Default)]
pub struct Second {
    pub loaded: Loaded,
    /// Clerk id → `users.id`, of those who have rows.
    pub user_ids: HashMap<String, Uuid>,
    pub missing: Missing,
}

/// Reads under all locks. The Clerk users of `first` have to be locked.
pub async fn load_second(tx: &mut Tx, concerned: &Concerned, mut first: First) -> Result<Second, StoreError> {
    let clerk_ids: Vec<&str> = first.clerk_ids.iter().map(String::as_str).collect();
    let (mut user_ids, mut stored_users, mut missing) = (HashMap::new(), Vec::new(), Missing::default());
    if !clerk_ids.is_empty() {
        let rows = owners::load_of_clerk_users(tx, &clerk_ids).await?;
        missing = check(concerned, &first, &rows);
        if !missing.is_nothing() {
            return Ok(Second { missing, ..Second::default() });
        }
        let linked = |owner: &&Owner| owner.clerk_user_id.is_some() && !concerned.customers.contains(&owner.owner_id);
        let others: Vec<&str> = rows.iter().filter(linked).map(|owner| owner.owner_id.as_str()).collect();
        let mut found = facts::load_of_clerk_users(tx, &clerk_ids).await?;
        if !others.is_empty() {
            found.extend(facts::load_of_customers(tx, &others, &concerned.object_ids()).await?);
        }
        let late =
            if concerned.late_lookups.is_empty() { Vec::new() } else { facts::load_by_key(tx, &concerned.late_lookups).await? };
        (user_ids, stored_users) = users::lock(tx, &clerk_ids).await?;
        // Those with the object itself first: they are kept.
        first.keep_objects(late);
        first.keep_objects(found);
        first.owners.extend(rows.into_iter().map(|owner| (owner.owner_id.clone(), owner)));
    }
    let mut objects = first.objects;
    load_references(tx, concerned, &mut objects, &first.owners).await?;
    let invoice_summaries = load_summaries(tx, concerned, &objects).await?;
    let loaded = Loaded {
        objects: objects.into_values().collect(),
        invoice_summaries,
        owners: first.owners.into_values().collect(),
        operator_links: first.operator_links,
        users: stored_users,
    };
    Ok(Second { loaded, user_ids, missing })
}

/// The users' own rows were read before they were locked: what they claim or hold may have changed since.
fn check(concerned: &Concerned, first: &First, rows: &[Owner]) -> Missing {
    let mut missing = Missing::default();
    for owner in rows {
        note_claims(concerned, owner, &mut missing);
        if concerned.link_by_verified_email && concerned.users.contains(&owner.owner_id) {
            missing.again |= owner.emails.iter().any(|email| !first.emails.contains(email));
        }
    }
    missing
}

/// The payment methods and test clocks that are referred to and not loaded yet.
async fn load_references(
    tx: &mut Tx,
    concerned: &Concerned,
    objects: &mut BTreeMap<ObjectKey, StoredObject>,
    owners: &BTreeMap<String, Owner>,
) -> Result<(), StoreError> {
    let mut ids: BTreeSet<&str> = concerned.references.iter().map(String::as_str).collect();
    ids.extend(objects.values().filter_map(|object| object.fact.as_deref()).flat_map(references));
    ids.extend(owners.values().filter_map(|owner| owner.test_clock.as_deref()));
    let batch: BTreeSet<&ObjectKey> = concerned.lookups.iter().map(|lookup| &lookup.key).collect();
    let lookups: Vec<Lookup> = ids
        .into_iter()
        .map(|id| ObjectKey { provider: Provider::Stripe, account: String::new(), object_id: id.to_owned() })
        .filter(|key| !objects.contains_key(key) && !batch.contains(key))
        .map(|key| Lookup { key, order: None })
        .collect();
    if !lookups.is_empty() {
        let rows = facts::load_by_key(tx, &lookups).await?;
        let found = rows.into_iter().filter_map(facts::ObjectRow::into_object);
        objects.extend(found.map(|object| (object.key.clone(), object)));
    }
    Ok(())
}

async fn load_summaries(
    tx: &mut Tx,
    concerned: &Concerned,
    objects: &BTreeMap<ObjectKey, StoredObject>,
) -> Result<Vec<InvoiceSummary>, StoreError> {
    let mut trials: BTreeSet<TrialEnd> = concerned.trials.clone();
    trials.extend(
        objects
            .values()
            .filter(|object| object.key.account.is_empty())
            .filter_map(|object| trial_end(object.owner_id.as_deref(), &object.key.object_id, object.fact.as_deref()?)),
    );
    if trials.is_empty() {
        return Ok(Vec::new());
    }
    let trials: Vec<TrialEnd> = trials.into_iter().collect();
    let mut loaded: BTreeSet<&str> = concerned.lookups.iter().map(|lookup| lookup.key.object_id.as_str()).collect();
    let invoices = objects.values().filter(|object| matches!(object.fact.as_deref(), Some(Fact::Invoice(_))));
    loaded.extend(invoices.map(|object| object.key.object_id.as_str()));
    facts::summarise_invoices(tx, &trials, &loaded.into_iter().collect::<Vec<_>>()).await
}
