//! A database in memory: batches of events are loaded for, folded and written back as the ingest transaction does it, with
//! everything that a load leaves out left out.

use std::collections::{BTreeMap, BTreeSet};

use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::billing::facts::{Fact, Invoice, Subscription};
use billsync::domain::billing::stored::{Changes, InvoiceSummary, Loaded, OperatorLink, Owner, StoredObject, StoredUser};
use billsync::domain::event::{Event, EventId, ObjectKey};
use chrono::{DateTime, TimeDelta, Utc};

/// See the module.
#[derive(Default)]
pub struct Memory {
    ledger: BTreeSet<EventId>,
    objects: BTreeMap<ObjectKey, StoredObject>,
    owners: BTreeMap<String, Owner>,
    operator_links: Vec<OperatorLink>,
    users: BTreeMap<String, StoredUser>,
}

impl Memory {
    /// An empty database in which the operator has spoken.
    pub fn new(operator_links: Vec<OperatorLink>) -> Memory {
        Memory { operator_links, ..Memory::default() }
    }

    /// Commits a batch; events that the ledger knows are left out.
    pub fn commit(&mut self, batch: &[&Event], context: Context<'_>) {
        let new: Vec<&Event> = batch.iter().copied().filter(|event| self.ledger.insert(event.key())).collect();
        let mut accounts = Accounts::new(self.load(&new));
        for event in new {
            accounts.apply(event, context);
        }
        self.write(accounts.into_changes(), context.now);
    }

    /// Projects every user again, as the clock's task does; the ids of those whose rows changed.
    pub fn reproject_all(&mut self, context: Context<'_>) -> Vec<String> {
        let mut accounts = Accounts::new(self.load(&[]));
        let user_ids: Vec<String> = self.users.keys().cloned().collect();
        let changed = user_ids.into_iter().filter(|user_id| !accounts.reproject(user_id, context).is_empty()).collect();
        self.write(accounts.into_changes(), context.now);
        changed
    }

    /// Everything stored.
    pub fn into_accounts(self) -> Accounts {
        Accounts::new(Loaded {
            objects: self.objects.into_values().collect(),
            invoice_summaries: Vec::new(),
            owners: self.owners.into_values().collect(),
            operator_links: self.operator_links,
            users: self.users.into_values().collect(),
        })
    }

    /// Whole objects only where the batch needs them; paid invoices as one row per subscription.
    fn load(&self, batch: &[&Event]) -> Loaded {
        let keys: BTreeSet<&ObjectKey> = batch.iter().flat_map(|event| event.snapshots()).map(|snapshot| &snapshot.key).collect();
        let starts = self.starts_asked_for(batch);
        let mut summaries: BTreeMap<(String, String, DateTime<Utc>), InvoiceSummary> = BTreeMap::new();
        let mut objects = Vec::new();
        for object in self.objects.values() {
            let needed = keys.contains(&object.key);
            match (object.fact.as_deref(), &object.owner_id) {
                (Some(Fact::Invoice(invoice)), Some(owner))
                    if !needed && can_be_summarised(invoice) && object.deleted_at.is_none() =>
                {
                    summarise(owner, invoice, &starts, &mut summaries);
                }
                _ => {
                    let mut object = object.clone();
                    if !needed && let Some(winner) = &mut object.winner {
                        winner.object = None;
                    }
                    objects.push(object);
                }
            }
        }
        Loaded {
            objects,
            invoice_summaries: summaries.into_values().collect(),
            owners: self.owners.values().cloned().collect(),
            operator_links: self.operator_links.clone(),
            users: self.users.values().cloned().collect(),
        }
    }

    /// `trial_end - 60 s` of every snapshot of every subscription that may win in this batch.
    fn starts_asked_for(&self, batch: &[&Event]) -> BTreeMap<String, BTreeSet<DateTime<Utc>>> {
        let stored = self.objects.values().flat_map(|object| {
            let contenders = object.contenders.iter().filter_map(|contender| contender.fact.as_deref());
            object.fact.as_deref().into_iter().chain(contenders).map(|fact| (&object.key.object_id, fact))
        });
        let coming = batch.iter().flat_map(|event| event.snapshots());
        let coming = coming.filter_map(|snapshot| Some((&snapshot.key.object_id, snapshot.fact.as_deref()?)));
        let mut starts: BTreeMap<String, BTreeSet<DateTime<Utc>>> = BTreeMap::new();
        for (id, fact) in stored.chain(coming) {
            if let Fact::Subscription(Subscription { trial_end: Some(trial_end), .. }) = fact {
                starts.entry(id.clone()).or_default().insert(*trial_end - TimeDelta::seconds(60));
            }
        }
        starts
    }

    fn write(&mut self, changes: Changes, now: DateTime<Utc>) {
        for mut object in changes.objects {
            // What was not loaded is not written either.
            if let (Some(winner), Some(before)) = (&mut object.winner, self.objects.get(&object.key))
                && winner.object.is_none()
            {
                winner.object = before.winner.as_ref().and_then(|before| before.object.clone());
            }
            self.objects.insert(object.key.clone(), object);
        }
        for owner in changes.owners {
            self.owners.insert(owner.owner_id.clone(), owner);
        }
        for user in changes.users {
            assert_eq!(user.is_new, !self.users.contains_key(&user.user_id), "{} is made exactly once", user.user_id);
            let created_at = self.users.get(&user.user_id).map_or(now, |stored| stored.created_at);
            let (user_id, rows) = (user.user_id, user.new);
            let stored = StoredUser { user_id: user_id.clone(), created_at, rows, requested_plan: None, requested_at: None };
            self.users.insert(user_id, stored);
        }
    }
}

/// Linking reads the invoices that name a user one by one, the e-mail schedule the open ones.
fn can_be_summarised(invoice: &Invoice) -> bool {
    invoice.status == "paid" && invoice.clerk_user_id.is_none()
}

fn summarise(
    owner: &str,
    invoice: &Invoice,
    starts: &BTreeMap<String, BTreeSet<DateTime<Utc>>>,
    summaries: &mut BTreeMap<(String, String, DateTime<Utc>), InvoiceSummary>,
) {
    let Some((subscription, start)) = invoice.billed_period() else { return };
    for since in starts.get(subscription).into_iter().flatten().filter(|since| start >= **since) {
        let key = (owner.to_owned(), subscription.to_owned(), *since);
        let summary = summaries.entry(key).or_insert_with(|| InvoiceSummary {
            customer_id: owner.to_owned(),
            subscription: subscription.to_owned(),
            since: *since,
            converted_at: None,
        });
        summary.converted_at = [summary.converted_at, invoice.conversion_at()].into_iter().flatten().min();
    }
}
