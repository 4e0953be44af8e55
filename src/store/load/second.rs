//! The second load: everything of the Clerk users concerned, and what the facts refer to.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::concerned::{references, trial_end};
use super::rows::{Load, LoadedRow, bind_lookups};
use super::sql::LOAD_SECOND;
use super::{Concerned, First, Missing, note_claims};
use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{InvoiceSummary, Loaded, Owner, StoredUser};
use crate::domain::event::{ObjectKey, Provider};
use crate::store::error::StoreError;
use crate::store::facts::{Lookup, TrialEnd};
use crate::store::pool::Tx;
use crate::store::users::LockedUser;

/// Everything that the fold needs, and how the users' rows are found again.
#[derive(Debug, Default)]
pub struct Second {
    pub loaded: Loaded,
    /// Clerk id → `users.id`, of those who have rows.
    pub user_ids: HashMap<String, Uuid>,
    /// Those of [`First::id_hashes`] that are erased.
    pub erased: Vec<String>,
    pub missing: Missing,
}

/// Reads under all locks. The Clerk users of `first` have to be locked.
pub async fn load_second(tx: &mut Tx, concerned: &Concerned, mut first: First) -> Result<Second, StoreError> {
    let clerk_ids: Vec<String> = first.clerk_ids.iter().cloned().collect();
    let mut asked = Asked::default();
    let (mut summaries, mut erased, mut locked) = (Vec::new(), Vec::new(), Vec::new());
    let id_hashes = std::mem::take(&mut first.id_hashes);
    let mut lookups = concerned.late_lookups.clone();
    lookups.extend(asked.references(concerned, &first));
    let trials = asked.trials(concerned, &first);
    let users_and_hashes = (clerk_ids.as_slice(), id_hashes.as_slice());
    let mut found = Found { first: &mut first, summaries: &mut summaries, erased: &mut erased, users: &mut locked };
    let owners = load(tx, concerned, users_and_hashes, &lookups, &trials, &mut found).await?;
    let missing = check(concerned, &first, &owners);
    if !missing.is_nothing() {
        return Ok(Second { missing, ..Second::default() });
    }
    first.owners.extend(owners.into_iter().map(|owner| (owner.owner_id.clone(), owner)));
    // What the facts of further customers refer to; most users have one customer.
    let lookups: Vec<Lookup> = asked.references(concerned, &first).collect();
    let trials = asked.trials(concerned, &first);
    let mut found = Found { first: &mut first, summaries: &mut summaries, erased: &mut erased, users: &mut locked };
    load(tx, concerned, (&[], &[]), &lookups, &trials, &mut found).await?;
    let (user_ids, users) = locked.into_iter().filter_map(LockedUser::into_stored).fold(
        (HashMap::new(), Vec::new()),
        |(mut ids, mut users), (id, user): (Uuid, StoredUser)| {
            ids.insert(user.user_id.clone(), id);
            users.push(user);
            (ids, users)
        },
    );
    let loaded = Loaded {
        objects: first.objects.into_values().collect(),
        invoice_summaries: summaries,
        owners: first.owners.into_values().collect(),
        operator_links: first.operator_links,
        users,
    };
    Ok(Second { loaded, user_ids, erased, missing })
}

/// Where the rows of a load go.
struct Found<'a> {
    first: &'a mut First,
    summaries: &'a mut Vec<InvoiceSummary>,
    erased: &'a mut Vec<String>,
    users: &'a mut Vec<LockedUser>,
}

/// Reads what is asked for, if anything is, and returns the owners.
async fn load(
    tx: &mut Tx,
    concerned: &Concerned,
    (clerk_ids, id_hashes): (&[String], &[String]),
    lookups: &[Lookup],
    trials: &[TrialEnd],
    found: &mut Found<'_>,
) -> Result<Vec<Owner>, StoreError> {
    let mut owners = Vec::new();
    if clerk_ids.is_empty() && lookups.is_empty() && trials.is_empty() && id_hashes.is_empty() {
        return Ok(owners);
    }
    let query: Load<'_> = tx.query_as(LOAD_SECOND);
    let query = query
        .bind(clerk_ids)
        .bind(concerned.customers.iter().map(String::as_str).collect::<Vec<_>>())
        .bind(concerned.object_ids());
    let query = bind_lookups(query, lookups)
        .bind(trials.iter().map(|trial| trial.customer_id.as_str()).collect::<Vec<_>>())
        .bind(trials.iter().map(|trial| trial.subscription.as_str()).collect::<Vec<_>>())
        .bind(trials.iter().map(|trial| trial.since).collect::<Vec<_>>())
        .bind(loaded_one_by_one(concerned, found.first))
        .bind(id_hashes);
    for row in query.fetch_all(tx.connection()?).await? {
        match row {
            LoadedRow::Object(row) => found.first.keep_object(row),
            LoadedRow::Owner(owner) => owners.push(owner),
            LoadedRow::Summary(summary) => found.summaries.push(summary),
            LoadedRow::Erased(hash) => found.erased.push(hash),
            LoadedRow::User(user) => found.users.push(*user),
            LoadedRow::Event(_) | LoadedRow::Link(_) | LoadedRow::Catalog(_) => {}
        }
    }
    Ok(owners)
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

/// What was asked for already, found or not.
#[derive(Debug, Default)]
struct Asked {
    references: BTreeSet<ObjectKey>,
    trials: BTreeSet<TrialEnd>,
}

impl Asked {
    /// The payment methods and test clocks that are referred to and not loaded yet.
    fn references(&mut self, concerned: &Concerned, first: &First) -> impl Iterator<Item = Lookup> {
        let mut ids: BTreeSet<&str> = concerned.references.iter().map(String::as_str).collect();
        ids.extend(first.objects.values().filter_map(|object| object.fact.as_deref()).flat_map(references));
        ids.extend(first.owners.values().filter_map(|owner| owner.test_clock.as_deref()));
        let batch: BTreeSet<&ObjectKey> = concerned.lookups.iter().map(|lookup| &lookup.key).collect();
        let keys: Vec<ObjectKey> = ids
            .into_iter()
            .map(|id| ObjectKey { provider: Provider::Stripe, account: String::new(), object_id: id.to_owned() })
            .filter(|key| !first.objects.contains_key(key) && !batch.contains(key))
            .filter(|key| self.references.insert(key.clone()))
            .collect();
        keys.into_iter().map(|key| Lookup { key, order: None })
    }

    /// The questions that the trials of subscriptions put to invoices which are not in memory.
    fn trials(&mut self, concerned: &Concerned, first: &First) -> Vec<TrialEnd> {
        let mut trials: BTreeSet<TrialEnd> = concerned.trials.clone();
        trials.extend(
            first
                .objects
                .values()
                .filter(|object| object.key.account.is_empty())
                .filter_map(|object| trial_end(object.owner_id.as_deref(), &object.key.object_id, object.fact.as_deref()?)),
        );
        trials.into_iter().filter(|trial| self.trials.insert(trial.clone())).collect()
    }
}

/// The batch's own objects, and the invoices in memory.
fn loaded_one_by_one(concerned: &Concerned, first: &First) -> Vec<String> {
    let invoices = first.objects.values().filter(|object| matches!(object.fact.as_deref(), Some(Fact::Invoice(_))));
    let mut loaded: BTreeSet<&str> = concerned.object_ids().into_iter().collect();
    loaded.extend(invoices.map(|object| object.key.object_id.as_str()));
    loaded.into_iter().map(str::to_owned).collect()
}
