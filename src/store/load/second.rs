//! The second load: everything of the Clerk users concerned, and what the facts refer to, but for what the first gave already.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::concerned::{references, stripe_key, trial_end};
use super::rows::{Load, LoadedRow, bind_lookups};
use super::sql::LOAD_SECOND;
use super::{Concerned, First, Missing, note_claims};
use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::{InvoiceSummary, Loaded, Owner, StoredUser};
use crate::domain::event::ObjectKey;
use crate::store::error::StoreError;
use crate::store::facts::{Lookup, ObjectRow, TrialEnd};
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

/// What is read under the locks of the Clerk users, in either load.
#[derive(Debug, Default)]
pub(super) struct Late {
    pub objects: Vec<ObjectRow>,
    owners: Vec<Owner>,
    summaries: Vec<InvoiceSummary>,
    erased: Vec<String>,
    users: Vec<LockedUser>,
}

impl Late {
    /// Whether users' rows are locked.
    pub(super) fn holds_rows(&self) -> bool {
        !self.users.is_empty()
    }

    pub(super) fn keep(&mut self, row: LoadedRow) {
        match row {
            LoadedRow::Object(row) | LoadedRow::LateObject(row) => self.objects.push(row),
            LoadedRow::LateOwner(owner) => self.owners.push(owner),
            LoadedRow::Summary(summary) => self.summaries.push(summary),
            LoadedRow::Erased(hash) => self.erased.push(hash),
            LoadedRow::User(user) => self.users.push(*user),
            LoadedRow::Event(_) | LoadedRow::Owner(_) | LoadedRow::Link(_) | LoadedRow::Catalog(_) => {}
        }
    }
}

/// Reads under all locks. The Clerk users of `first` have to be locked.
pub async fn load_second(tx: &mut Tx, concerned: &Concerned, mut first: First) -> Result<Second, StoreError> {
    let expected = concerned.expected();
    let mut late = std::mem::take(&mut first.late);
    first.keep_late_objects(&mut late);
    let mut asked = Asked::in_first(concerned);
    let mut lookups = asked.late_lookups(concerned);
    lookups.extend(asked.references(concerned, &first));
    let question = Question {
        clerk_ids: first.clerk_ids.difference(&expected.clerk_ids).map(String::as_str).collect(),
        id_hashes: first.id_hashes.difference(&expected.id_hashes).map(String::as_str).collect(),
        trials: asked.trials(concerned, &first),
        lookups,
    };
    late = load(tx, concerned, &first, &question, late).await?;
    let missing = check(concerned, &first, &late.owners);
    if !missing.is_nothing() {
        return Ok(Second { missing, ..Second::default() });
    }
    first.keep_late_objects(&mut late);
    first.owners.extend(late.owners.drain(..).map(|owner| (owner.owner_id.clone(), owner)));
    // What the facts of further customers refer to; most users have one customer.
    let lookups = asked.references(concerned, &first).collect();
    let question = Question { lookups, trials: asked.trials(concerned, &first), ..Question::default() };
    late = load(tx, concerned, &first, &question, late).await?;
    first.keep_late_objects(&mut late);
    let Late { summaries, erased, users, .. } = late;
    let (user_ids, users) = users.into_iter().filter_map(LockedUser::into_stored).fold(
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

/// What is asked of the second load.
#[derive(Default)]
struct Question<'a> {
    clerk_ids: Vec<&'a str>,
    id_hashes: Vec<&'a str>,
    lookups: Vec<Lookup>,
    trials: Vec<TrialEnd>,
}

impl Question<'_> {
    fn is_nothing(&self) -> bool {
        self.clerk_ids.is_empty() && self.id_hashes.is_empty() && self.lookups.is_empty() && self.trials.is_empty()
    }
}

/// Adds what is asked for, if anything is.
async fn load(
    tx: &mut Tx,
    concerned: &Concerned,
    first: &First,
    question: &Question<'_>,
    mut late: Late,
) -> Result<Late, StoreError> {
    if question.is_nothing() {
        return Ok(late);
    }
    let Question { clerk_ids, id_hashes, trials, .. } = question;
    let lookups: Vec<&Lookup> = question.lookups.iter().collect();
    let query: Load<'_> = tx.query_as(LOAD_SECOND);
    let query = query
        .bind(clerk_ids)
        .bind(concerned.customers.iter().map(String::as_str).collect::<Vec<_>>())
        .bind(concerned.object_ids());
    let query = bind_lookups(query, &lookups)
        .bind(trials.iter().map(|trial| trial.customer_id.as_str()).collect::<Vec<_>>())
        .bind(trials.iter().map(|trial| trial.subscription.as_str()).collect::<Vec<_>>())
        .bind(trials.iter().map(|trial| trial.since).collect::<Vec<_>>())
        .bind(loaded_one_by_one(concerned, first))
        .bind(id_hashes);
    for row in query.fetch_all(tx.connection()?).await? {
        late.keep(row);
    }
    Ok(late)
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
    keys: BTreeSet<ObjectKey>,
    trials: BTreeSet<TrialEnd>,
}

impl Asked {
    fn in_first(concerned: &Concerned) -> Asked {
        Asked { keys: concerned.expected().lookups.iter().map(|lookup| lookup.key.clone()).collect(), ..Asked::default() }
    }

    /// Clerk users and imports of the batch.
    fn late_lookups(&mut self, concerned: &Concerned) -> Vec<Lookup> {
        concerned.late_lookups.iter().filter(|lookup| self.keys.insert(lookup.key.clone())).cloned().collect()
    }

    /// The payment methods and test clocks that are referred to and not loaded yet.
    fn references(&mut self, concerned: &Concerned, first: &First) -> impl Iterator<Item = Lookup> {
        let mut ids: BTreeSet<&str> = concerned.references.iter().map(String::as_str).collect();
        ids.extend(first.objects.values().filter_map(|object| object.fact.as_deref()).flat_map(references));
        ids.extend(first.owners.values().filter_map(|owner| owner.test_clock.as_deref()));
        let batch: BTreeSet<&ObjectKey> = concerned.lookups.iter().map(|lookup| &lookup.key).collect();
        let keys: Vec<ObjectKey> = ids
            .into_iter()
            .map(stripe_key)
            .filter(|key| !first.objects.contains_key(key) && !batch.contains(key))
            .filter(|key| self.keys.insert(key.clone()))
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
