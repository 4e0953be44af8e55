//! The fold: events in, changed rows out. Every permutation of a story can be tried here, in memory. It knows neither
//! the ledger (whoever calls it leaves out events that are known) nor SQL, and reads no clock.

mod indexing;
mod operator;
pub mod rebuilding;
mod relations;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use hashbrown::HashMap;

use crate::domain::billing::accounts::relations::Relations;
use crate::domain::billing::customer_facts::{ClerkFacts, CustomerFacts, Known};
use crate::domain::billing::effects;
use crate::domain::billing::facts::{ClerkUser, Import, is_projected_type};
use crate::domain::billing::linking::{self, LinkEvidence};
use crate::domain::billing::ordering::{self, Admission, Verdict};
use crate::domain::billing::plan::Catalog;
use crate::domain::billing::projection::{self, UserFacts};
use crate::domain::billing::rows::{Effect, Rows, UsageReset};
use crate::domain::billing::stored::{
    Alert, Changes, Loaded, NewestEvent, OperatorLink, Owner, Refetch, StoredObject, StoredUser, UserWrite,
};
use crate::domain::event::{Content, Event, ObjectKey, Outcome, Provider, Snapshot};
use crate::domain::rules::Rules;

/// How far ahead of our clock a live event may be without an alert.
const FUTURE_TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// How long after an ambiguous second the provider is asked: by then everything of that second has happened.
const REFETCH_DELAY: TimeDelta = TimeDelta::seconds(2);

/// The accounts that a batch concerns, in memory.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    objects: HashMap<ObjectKey, Box<ObjectState>>,
    customers: HashMap<String, CustomerFacts>,
    payers: HashMap<String, ClerkFacts>,
    clerk_users: HashMap<String, Known<ClerkUser>>,
    imports: HashMap<String, Import>,
    clocks: HashMap<String, DateTime<Utc>>,
    owners: HashMap<String, Owner>,
    original_owners: HashMap<String, Owner>,
    relations: Relations,
    operator_links: HashMap<String, OperatorLink>,
    users: BTreeMap<String, Box<UserState>>,
    refetches: BTreeMap<String, Refetch>,
    alerts: Vec<Alert>,
}

#[derive(Clone, Debug)]
struct ObjectState {
    object: StoredObject,
    /// Whether it differs from what was loaded.
    changed: bool,
}

#[derive(Clone, Debug)]
struct UserState {
    current: StoredUser,
    /// As loaded; `None` for rows that have to be made.
    original: Option<Rows>,
    usage_reset: Option<UsageReset>,
}

impl UserState {
    /// Of a user whose rows have to be made.
    fn new(user_id: &str, created_at: DateTime<Utc>, rows: Rows, usage_reset: Option<UsageReset>) -> UserState {
        let current = StoredUser { user_id: user_id.to_owned(), created_at, rows, requested_plan: None, requested_at: None };
        UserState { current, original: None, usage_reset }
    }
}

/// What one event did.
#[derive(Clone, Debug)]
pub struct Applied {
    pub outcome: Outcome,
    /// Why, when the outcome alone does not say.
    pub reason: Option<String>,
    pub effects: Vec<Effect>,
}

/// What the fold is a function of beside the events.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    pub rules: &'a Rules,
    pub now: DateTime<Utc>,
}

/// Whom an event concerns, in any order and any number of times.
#[derive(Default)]
struct Touched {
    customers: Vec<String>,
    users: Vec<String>,
}

impl Accounts {
    /// Takes what was loaded for a batch.
    pub fn new(loaded: Loaded) -> Accounts {
        let mut accounts = Accounts::default();
        for link in loaded.operator_links {
            accounts.operator_links.insert(link.customer_id.clone(), link);
        }
        for owner in loaded.owners {
            accounts.relations.add(&owner);
            if owner.has_facts {
                accounts.customer_mut(&owner.owner_id).has_facts = true;
            }
            accounts.original_owners.insert(owner.owner_id.clone(), owner.clone());
            accounts.owners.insert(owner.owner_id.clone(), owner);
        }
        for object in loaded.objects {
            if object.key.account.is_empty() {
                accounts.index(&object);
            }
            accounts.objects.insert(object.key.clone(), Box::new(ObjectState { object, changed: false }));
        }
        for summary in loaded.invoice_summaries {
            accounts.customer_mut(&summary.customer_id).invoices.insert_summary(summary);
        }
        for user in loaded.users {
            let original = Some(user.rows.clone());
            let state = UserState { current: user, original, usage_reset: None };
            accounts.users.insert(state.current.user_id.clone(), Box::new(state));
        }
        accounts
    }

    /// Applies one event that the ledger does not know yet (or knows as failed).
    pub fn apply(&mut self, event: &Event, context: Context<'_>) -> Applied {
        let mut touched = Touched::default();
        let verdict = match &event.content {
            Content::Ignored { reason } => Some((Outcome::Ignored, Some(reason.clone()))),
            Content::Unreadable { reason } => Some((Outcome::Failed, Some(reason.clone()))),
            Content::Snapshots(snapshots) => self.admit_all(snapshots, &mut touched, context.rules),
        };
        let failed = matches!(event.content, Content::Unreadable { .. });
        self.note_newest(event, failed, context.rules, &mut touched);
        self.raise_event_alerts(event, context.now);
        let effects = self.settle(touched, context);
        let (outcome, reason) = verdict.unwrap_or_else(|| self.outcome_by_link(event));
        Applied { outcome, reason, effects }
    }

    /// Notes that the database refused an event: the ledger has it as failed, its owner's rows say so.
    pub fn apply_failed(&mut self, event: &Event, context: Context<'_>) -> Vec<Effect> {
        let mut touched = Touched::default();
        self.note_newest(event, true, context.rules, &mut touched);
        self.settle(touched, context)
    }

    /// Resolves a customer's link anew, without an event: the operator spoke.
    pub fn relink(&mut self, customer_id: &str, context: Context<'_>) -> Vec<Effect> {
        self.settle(Touched { customers: vec![customer_id.to_owned()], ..Touched::default() }, context)
    }

    /// Re-projects a user without an event: the clock or the catalog changed.
    pub fn reproject(&mut self, user_id: &str, context: Context<'_>) -> Vec<Effect> {
        self.project(user_id, context)
    }

    /// The rows of a user, if they exist.
    pub fn rows(&self, user_id: &str) -> Option<&Rows> {
        self.users.get(user_id).map(|user| &user.current.rows)
    }

    /// The owner row of a customer or Clerk user.
    pub fn owner(&self, owner_id: &str) -> Option<&Owner> {
        self.owners.get(owner_id)
    }

    /// The Clerk ids of everybody who has rows.
    pub fn user_ids(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// An object as it is stored.
    pub fn object(&self, key: &ObjectKey) -> Option<&StoredObject> {
        self.objects.get(key).map(|state| &state.object)
    }

    /// Everything that differs from what was loaded, sorted by key, one entry a key.
    pub fn into_changes(self) -> Changes {
        let changed = self.objects.into_values().filter(|state| state.changed);
        let mut objects: Vec<StoredObject> = changed.map(|state| state.object).collect();
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let original_owners = self.original_owners;
        let differs = |owner: &Owner| original_owners.get(&owner.owner_id) != Some(owner);
        let mut owners: Vec<Owner> = self.owners.into_values().filter(differs).collect();
        owners.sort_unstable_by(|a, b| a.owner_id.cmp(&b.owner_id));
        let users = self.users.into_iter().filter_map(|(user_id, state)| {
            let is_new = state.original.is_none();
            let old = state.original.unwrap_or_default();
            let differs = is_new || old != state.current.rows || state.usage_reset.is_some();
            differs.then_some(UserWrite { user_id, is_new, old, new: state.current.rows, usage_reset: state.usage_reset })
        });
        Changes {
            objects,
            owners,
            users: users.collect(),
            refetches: self.refetches.into_values().collect(),
            alerts: self.alerts,
        }
    }

    /// Everything in memory, as a load of all of it would give it.
    pub fn into_loaded(self) -> Loaded {
        Loaded {
            objects: self.objects.into_values().map(|state| state.object).collect(),
            invoice_summaries: Vec::new(),
            owners: self.owners.into_values().collect(),
            operator_links: self.operator_links.into_values().collect(),
            users: self.users.into_values().map(|state| state.current).collect(),
        }
    }

    /// Admits the snapshots. `None` when the outcome depends on whether a user is linked.
    fn admit_all(&mut self, snapshots: &[Snapshot], touched: &mut Touched, rules: &Rules) -> Option<(Outcome, Option<String>)> {
        let (mut projected, mut won) = (false, false);
        for snapshot in snapshots {
            projected |= is_projected(snapshot);
            won |= self.admit(snapshot, touched, rules) == Verdict::Won;
        }
        if !projected {
            return Some((Outcome::Ignored, Some("mirrored only".into())));
        }
        (!won).then(|| (Outcome::Stale, Some("a newer snapshot is known".into())))
    }

    fn admit(&mut self, snapshot: &Snapshot, touched: &mut Touched, rules: &Rules) -> Verdict {
        let (key, before) = match self.objects.remove_entry(&snapshot.key) {
            Some((key, state)) => (key, Some(state)),
            None => (snapshot.key.clone(), None),
        };
        let (owner_before, fact_before) = match &before {
            Some(state) => (state.object.owner_id.clone(), state.object.fact.clone()),
            None => (None, None),
        };
        let changed_before = before.as_ref().is_some_and(|state| state.changed);
        let Admission { object, verdict, changed } = ordering::admit(before.map(|state| state.object), snapshot);
        if is_projected(snapshot) {
            self.note_facts(snapshot, touched);
            if changed {
                if let (Some(owner), Some(fact)) =
                    (owner_before.as_ref().filter(|_| owner_before != object.owner_id), fact_before)
                {
                    self.unindex(owner, &object.key.object_id, &fact);
                }
                self.index(&object);
                let concerned = if object.key.provider == Provider::Stripe { &mut touched.customers } else { &mut touched.users };
                object.owner_id.iter().for_each(|owner| touch(concerned, owner));
                concerned.extend(owner_before.filter(|before| object.owner_id.as_ref() != Some(before)));
                self.update_owner(&object, touched, rules);
                self.note_ambiguity(&object);
            }
        }
        self.objects.insert(key, Box::new(ObjectState { object, changed: changed || changed_before }));
        verdict
    }

    /// Remembers that the provider has spoken of the customer: an import's word no longer counts for it.
    fn note_facts(&mut self, snapshot: &Snapshot, touched: &mut Touched) {
        let Some(owner_id) = snapshot.owner_id.as_deref().filter(|_| snapshot.key.provider == Provider::Stripe) else { return };
        if !self.customer_mut(owner_id).has_facts {
            self.customer_mut(owner_id).has_facts = true;
            self.change_owner(owner_id, |owner| owner.has_facts = true);
            touch(&mut touched.customers, owner_id);
        }
    }

    fn note_ambiguity(&mut self, object: &StoredObject) {
        let Some(winner) = object.winner.as_ref().filter(|_| object.ambiguous) else { return };
        let (object_id, after) = (object.key.object_id.clone(), winner.as_of + REFETCH_DELAY);
        self.refetches.insert(object_id.clone(), Refetch { object_id, after, reason: "ambiguous" });
    }

    /// Remembers the event as its owner's newest, unless it is of another mode or account, or no event of the provider's.
    fn note_newest(&mut self, event: &Event, failed: bool, rules: &Rules, touched: &mut Touched) {
        let Some(owner_id) = &event.owner_id else { return };
        let counts = event.source.counts_as_newest_event() && event.account.is_empty() && rules.livemode.accepts(event.livemode);
        if !counts {
            return;
        }
        match event.provider {
            Provider::Stripe => touch(&mut touched.customers, owner_id),
            Provider::Clerk | Provider::Import => touch(&mut touched.users, owner_id),
        };
        // What others find an owner by stays as it is, so the relations need not be told.
        let nothing = || Owner { owner_id: owner_id.clone(), ..Owner::default() };
        let owner = self.owners.entry_ref(owner_id.as_str()).or_insert_with(nothing);
        if owner.newest.as_ref().is_none_or(|known| (known.at, &known.event_id) <= (event.occurred_at, &event.id)) {
            let (event_id, event_type) = (event.id.clone(), event.event_type.clone());
            owner.newest = Some(NewestEvent { at: event.occurred_at, event_id, event_type, failed });
        }
    }

    fn raise_event_alerts(&mut self, event: &Event, now: DateTime<Utc>) {
        if event.livemode == Some(true) && event.occurred_at > now + FUTURE_TOLERANCE {
            self.alerts.push(Alert { name: "event_from_the_future", subject: event.id.clone() });
        }
        if event.event_type == "charge.dispute.created" {
            self.alerts.push(Alert { name: "dispute", subject: event.object_id.clone().unwrap_or_default() });
        }
    }

    /// Links the customers anew, then projects everybody concerned.
    fn settle(&mut self, touched: Touched, context: Context<'_>) -> Vec<Effect> {
        let (mut customers, mut users) = (touched.customers, touched.users);
        sort_once(&mut customers);
        for customer_id in &customers {
            let before = self.owners.get(customer_id).and_then(|owner| owner.clerk_user_id.clone());
            let after = self.link(customer_id, context.rules);
            users.extend(before.filter(|before| after.as_ref() != Some(before)));
            users.extend(after);
        }
        sort_once(&mut users);
        let mut effects = Vec::new();
        for user_id in &users {
            let of_user = self.project(user_id, context);
            if effects.is_empty() { effects = of_user } else { effects.extend(of_user) }
        }
        effects
    }

    fn link(&mut self, customer_id: &str, rules: &Rules) -> Option<String> {
        let email = self.owners.get(customer_id).and_then(|owner| owner.emails.first());
        let evidence = LinkEvidence {
            operator: self.operator_links.get(customer_id),
            facts: self.customers.get(customer_id),
            claimed_by: self.relations.claimed_by.get(customer_id),
            verified_by: email.and_then(|email| self.relations.verified_by.get(email)),
            imported_by: self.relations.imported_by.get(customer_id),
        };
        let link = linking::resolve(&evidence, rules);
        if link.claimed_twice {
            self.alerts.push(Alert { name: "claimed_twice", subject: customer_id.to_owned() });
        }
        let same = self
            .owners
            .get(customer_id)
            .is_some_and(|owner| owner.clerk_user_id == link.clerk_user_id && owner.linked_by == link.linked_by);
        let user = link.clerk_user_id.clone();
        if !same {
            self.change_owner(customer_id, |owner| {
                owner.clerk_user_id = link.clerk_user_id;
                owner.linked_by = link.linked_by;
            });
        }
        user
    }

    /// Projects a user's rows, if there are to be any, and returns what changed.
    fn project(&mut self, user_id: &str, context: Context<'_>) -> Vec<Effect> {
        let state = self.users.get(user_id);
        let (user, import) = (self.clerk_users.get(user_id), self.imports.get(user_id));
        if state.is_none() && user.is_none() && import.is_none() {
            return Vec::new();
        }
        let customer_ids: Vec<&String> = self.relations.customers_of.get(user_id).into_iter().flatten().collect();
        let nothing_known: Vec<CustomerFacts> =
            customer_ids.iter().filter(|id| !self.customers.contains_key(**id)).map(|id| CustomerFacts::new(id)).collect();
        let mut customers: Vec<&CustomerFacts> =
            customer_ids.iter().filter_map(|id| self.customers.get(*id)).chain(&nothing_known).collect();
        customers.sort_by(|a, b| a.customer_id.cmp(&b.customer_id));
        let owner_ids = customer_ids.into_iter().map(String::as_str).chain([user_id]);
        let newest = owner_ids
            .filter_map(|id| self.owners.get(id)?.newest.as_ref())
            .max_by(|a, b| (a.at, &a.event_id).cmp(&(b.at, &b.event_id)));
        let facts = UserFacts {
            user_id,
            user,
            clerk: self.payers.get(user_id),
            import,
            newest,
            stored: state.map(|state| &state.current),
            customers,
        };
        let now = self.now_of(&facts.customers, context.now);
        let projected = projection::project(&facts, context.catalog, context.rules, now);
        let effects = effects::diff(user_id, state.map(|state| &state.current.rows), &projected.rows);
        for refetch in projected.refetches {
            self.refetches.entry(refetch.object_id.clone()).or_insert(refetch);
        }
        self.alerts.extend(projected.alerts);
        match self.users.get_mut(user_id) {
            Some(state) => {
                state.current.rows = projected.rows;
                // A second reset within a batch finds counters that are zero already: the first one's archive stands.
                state.usage_reset = state.usage_reset.take().or(projected.usage_reset);
            }
            None => {
                let state = UserState::new(user_id, context.now, projected.rows, projected.usage_reset);
                self.users.insert(user_id.to_owned(), Box::new(state));
            }
        }
        effects
    }

    /// The test clock's time for a user whose customers live by one.
    fn now_of(&self, customers: &[&CustomerFacts], now: DateTime<Utc>) -> DateTime<Utc> {
        let clocks = customers.iter().filter_map(|customer| customer.test_clock());
        clocks.filter_map(|clock| self.clocks.get(clock)).max().copied().unwrap_or(now)
    }

    /// Applied, or unlinked when the owner has no rows (yet).
    fn outcome_by_link(&self, event: &Event) -> (Outcome, Option<String>) {
        let first = event.snapshots().first();
        if first.is_some_and(|snapshot| snapshot.object_type == "test_helpers.test_clock") {
            return (Outcome::Applied, None);
        }
        let owner_id = first.and_then(|snapshot| self.object(&snapshot.key)?.owner_id.as_deref());
        let Some(owner_id) = owner_id else {
            return (Outcome::Unlinked, Some("the object belongs to no customer".into()));
        };
        let user_id = match event.provider {
            Provider::Stripe => self.owners.get(owner_id).and_then(|owner| owner.clerk_user_id.as_deref()),
            Provider::Clerk | Provider::Import => Some(owner_id),
        };
        match user_id {
            None => (Outcome::Unlinked, Some(format!("no user is linked to customer {owner_id}"))),
            Some(user_id) if self.users.contains_key(user_id) => (Outcome::Applied, None),
            Some(user_id) => (Outcome::Unlinked, Some(format!("user {user_id} is not known yet"))),
        }
    }
}

/// Adds an id, which most often is the one that was added last.
fn touch(ids: &mut Vec<String>, id: &str) {
    if ids.last().is_none_or(|last| last != id) {
        ids.push(id.to_owned());
    }
}

/// Each of them once, in one order whatever the order of arrival.
fn sort_once(ids: &mut Vec<String>) {
    ids.sort_unstable();
    ids.dedup();
}

/// Whether linking or projection read the object; a Connect account's are mirrored alone.
fn is_projected(snapshot: &Snapshot) -> bool {
    snapshot.key.account.is_empty() && (snapshot.fact.is_some() || is_projected_type(&snapshot.object_type))
}

#[cfg(test)]
mod tests;
