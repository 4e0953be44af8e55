//! Events about people who were erased, in the one path: what of them reaches the fold, and what the ledger gets instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Applied, Concerned, Context, Outcome, Provider, StoreError, Told, Tx, Work, apply_event};
use crate::domain::billing::accounts::Accounts;
use crate::domain::erasure::{self, Erased};
use crate::domain::event::Event;
use crate::store::{keep_customers_erased, lift_erasures};

/// Who of a batch is erased, and what the batch found out about that.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    erased: Erased,
    /// Customers whom an event gives to an erased person.
    found: BTreeSet<String>,
    /// Erased customers who belong to somebody else by now.
    returned: BTreeSet<String>,
}

impl Erasures {
    /// Every id of a batch that could be erased.
    pub(super) fn candidates(work: &Work<'_>, concerned: &Concerned, clerk_ids: &BTreeSet<String>) -> BTreeSet<String> {
        let mut ids: BTreeSet<String> = match work {
            Work::Accounts { .. } | Work::Rebuild(_) => return BTreeSet::new(),
            Work::Events(_) | Work::Preview(_) | Work::Imports { .. } | Work::Refused { .. } | Work::Operator(_) => {
                clerk_ids.clone()
            }
        };
        ids.extend(concerned.customer_ids().map(str::to_owned));
        for event in work.events() {
            ids.extend(erasure::erasable_ids(event));
        }
        ids
    }

    pub(super) fn id_hashes(candidates: &BTreeSet<String>) -> BTreeSet<String> {
        candidates.iter().map(|id| erasure::id_hash(id)).collect()
    }

    pub(super) fn new(erased: Erased) -> Erasures {
        Erasures { erased, ..Erasures::default() }
    }

    /// Whether that Clerk user is erased.
    pub(super) fn has(&self, clerk_id: &str) -> bool {
        self.erased.has(clerk_id)
    }

    /// Applies an event, or what may be kept of it.
    pub(super) fn apply(&mut self, accounts: &mut Accounts, event: &Arc<Event>, context: Context<'_>) -> Told {
        if self.erased.is_nobody() {
            return apply_event(accounts, event, context);
        }
        if event.provider != Provider::Stripe {
            if !self.erased.covers_person_of(event) {
                return apply_event(accounts, event, context);
            }
            let withheld = erasure::withhold(event);
            // What only an API read knows of somebody erased is no news.
            let in_ledger = event.source.counts_as_newest_event();
            return Told { applied: nothing_kept(), in_ledger, stand_in: Some(withheld) };
        }
        self.apply_stripe(accounts, event, context)
    }

    /// What the ledger gets of an event that the database refuses.
    pub(super) fn stand_in(&self, event: &Event) -> Option<Event> {
        if self.erased.is_nobody() {
            return None;
        }
        match event.provider {
            Provider::Stripe => {
                let customers = event.customer_ids.iter().chain(&event.owner_id);
                let is_covered = customers.chain(&event.clerk_user_ids).any(|id| self.erased.has(id));
                is_covered.then(|| erasure::reduce(event, &self.erased))
            }
            Provider::Clerk | Provider::Import => self.erased.covers_person_of(event).then(|| erasure::withhold(event)),
        }
    }

    fn apply_stripe(&mut self, accounts: &mut Accounts, event: &Arc<Event>, context: Context<'_>) -> Told {
        let named = erasure::named_users(event);
        let names_erased = named.iter().any(|user| self.erased.has(user));
        let names_other = named.iter().any(|user| !self.erased.has(user));
        let customers = customers_of(accounts, event);
        let erased: Vec<String> =
            customers.iter().filter(|id| self.erased.has(id) || self.found.contains(*id)).cloned().collect();
        if erased.is_empty() && !names_erased {
            return apply_event(accounts, event, context);
        }
        if erased.iter().all(|customer| self.belongs_to_other(accounts, customer)) && !names_erased {
            self.returned.extend(erased);
            return apply_event(accounts, event, context);
        }
        if names_other && !names_erased {
            // Perhaps this is the event that gives the customer to somebody else: then nothing of it has to be left out.
            let mut trial = accounts.clone();
            let told = apply_event(&mut trial, event, context);
            if erased.iter().all(|customer| self.belongs_to_other(&trial, customer)) {
                *accounts = trial;
                self.returned.extend(erased);
                return told;
            }
        }
        if names_erased {
            let is_free = |id: &String| !self.erased.has(id) && !self.belongs_to_other(accounts, id);
            let strangers: Vec<String> = customers.into_iter().filter(is_free).collect();
            self.found.extend(strangers);
        }
        let reduced = erasure::reduce(event, &self.erased);
        let mut told = apply_event(accounts, &reduced, context);
        if told.applied.outcome != Outcome::Applied {
            told.applied.outcome = Outcome::Ignored;
            told.applied.reason = Some(erasure::REASON.to_owned());
        }
        told.stand_in = Some(reduced);
        told
    }

    fn belongs_to_other(&self, accounts: &Accounts, customer_id: &str) -> bool {
        let user = accounts.owner(customer_id).and_then(|owner| owner.clerk_user_id.as_ref());
        user.is_some_and(|user| !self.erased.has(user))
    }

    /// Writes what was found out: a customer of an erased person loses what was kept of it until now.
    pub(super) async fn record(&self, tx: &mut Tx, now: chrono::DateTime<chrono::Utc>) -> Result<(), StoreError> {
        if !self.found.is_empty() {
            let users: Vec<&str> = self.erased.users().map(String::as_str).collect();
            let customers: Vec<&str> = self.found.iter().map(String::as_str).collect();
            keep_customers_erased(tx, &customers, &users, now).await?;
        }
        if !self.returned.is_empty() {
            lift_erasures(tx, &self.returned.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

/// The customers that an event names, and those whose its objects are known to be.
fn customers_of(accounts: &Accounts, event: &Event) -> BTreeSet<String> {
    let stored = event.snapshots().iter().filter_map(|snapshot| accounts.object(&snapshot.key)?.owner_id.clone());
    event.customer_ids.iter().chain(&event.owner_id).cloned().chain(stored).collect()
}

fn nothing_kept() -> Applied {
    Applied { outcome: Outcome::Ignored, reason: Some(erasure::REASON.to_owned()), effects: Vec::new() }
}
