//! What a batch of a rebuild does between loading and writing. Locks, loads, fold and writes are those of every batch.

use std::collections::{BTreeSet, HashMap};

use super::{BatchError, Folded, Work, job_events, run};
use crate::clock::Clock;
use crate::domain::billing::accounts::rebuilding::OwnerHistory;
use crate::domain::billing::accounts::{Accounts, Context};
use crate::domain::billing::differences::Difference;
use crate::domain::event::ObjectKey;
use crate::domain::rules::Rules;
use crate::store::{Concerned, Store, StoreError, Tx, load_owner_histories};

/// The type of the ledger's entries.
const CAUSE: &str = "rebuild";

/// What a batch works out anew.
#[derive(Clone, Debug, Default)]
pub struct Rebuild {
    /// Customers and Clerk users whose owner rows are worked out and told.
    pub owners: BTreeSet<String>,
    /// Clerk users whose five rows are worked out and told.
    pub users: BTreeSet<String>,
    /// Owner rows that were found wrong before and, in a dry run, not mended: worked out once more, not told again.
    pub known_owners: BTreeSet<String>,
    /// The same of objects: they are read one by one, because what they are looked up by is wrong.
    pub known_objects: Vec<ObjectKey>,
    pub dry_run: bool,
}

/// What differed from what was stored.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    pub differences: Vec<Difference>,
}

/// Works out the owner rows and the users' rows of `rebuild` anew, as one batch: what differed from what was stored.
pub async fn rebuild(store: &Store, rebuild: &Rebuild, rules: &Rules, clock: &Clock) -> Result<Rebuilt, BatchError> {
    let concerned = rebuild.concerned(rules);
    Ok(run(store, concerned, &Work::Rebuild(rebuild), rules, clock).await?.rebuilt)
}

impl Rebuild {
    pub(super) fn concerned(&self, rules: &Rules) -> Concerned {
        let ids = self.owners.iter().chain(&self.known_owners);
        let (clerk_ids, customers): (Vec<String>, Vec<String>) = ids.cloned().partition(|id| is_clerk_user(id));
        let clerk_ids: Vec<String> = clerk_ids.into_iter().chain(self.users.iter().cloned()).collect();
        let mut concerned = Concerned::of_accounts(&customers, &clerk_ids, rules);
        concerned.read_singly(&self.known_objects);
        concerned
    }
}

/// A rebuild with what the ledger says of its owners.
pub(super) struct Rebuilding<'a> {
    rebuild: &'a Rebuild,
    histories: HashMap<String, OwnerHistory>,
}

impl<'a> Rebuilding<'a> {
    pub(super) async fn load(tx: &mut Tx, rebuild: &'a Rebuild, rules: &Rules) -> Result<Rebuilding<'a>, StoreError> {
        let ids: Vec<String> = rebuild.owners.union(&rebuild.known_owners).cloned().collect();
        let histories = if ids.is_empty() { HashMap::new() } else { load_owner_histories(tx, &ids, rules).await? };
        Ok(Rebuilding { rebuild, histories })
    }

    pub(super) fn apply(mut self, accounts: &mut Accounts, context: Context<'_>) -> Folded {
        let mut rebuilt = Rebuilt::default();
        let ids = self.rebuild.owners.union(&self.rebuild.known_owners);
        // A customer's link follows from its Clerk users' owner rows: they come first.
        let (clerk_users, customers): (Vec<&String>, Vec<&String>) = ids.partition(|id| is_clerk_user(id));
        for owner_id in clerk_users.into_iter().chain(customers) {
            let history = self.histories.remove(owner_id).unwrap_or_default();
            let differences = accounts.rebuild_owner(owner_id, history, context.rules);
            if self.rebuild.owners.contains(owner_id) {
                rebuilt.differences.extend(differences);
            }
        }
        let mut effects = Vec::new();
        for user_id in &self.rebuild.users {
            let rows = accounts.rebuild_rows(user_id, context);
            effects.extend(rows.effects);
            rebuilt.differences.extend(rows.differences);
        }
        Folded { rebuilt, ..job_events(CAUSE, effects, context.now) }
    }
}

/// Clerk's user ids begin with `user_`, Stripe's customer ids never do.
pub fn is_clerk_user(owner_id: &str) -> bool {
    owner_id.starts_with("user_")
}
