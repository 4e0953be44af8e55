//! From objects that an API described to committed facts, and the drift that they make visible.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::domain::billing::facts::Fact;
use crate::domain::event::{Content, Event, Outcome, Snapshot, Source};
use crate::domain::stripe::{ApiRead, decode_object_of};
use crate::metrics;
use crate::reconcile::drift::compare;
use crate::reconcile::kept::as_kept;
use crate::reconcile::{Drift, ReconcileError, Reconciler};
use crate::store::{CustomerOwner, HeldObject};
use crate::stripe_api::Read;

/// What is done about what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It becomes a fact.
    Apply,
    /// It is shown.
    DryRun,
}

/// Whose objects are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// Those of customers that belong to a user, and those that say whose a customer is.
    Linked,
}

/// What a reading found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub drift: Vec<Drift>,
    /// Objects that were described.
    pub objects: u64,
    /// Among them those that live by a test clock, which are left alone.
    pub on_test_clocks: u64,
    /// What could not be read, in words.
    pub problems: Vec<String>,
    #[serde(skip)]
    pub(super) test_clock_customers: BTreeSet<String>,
}

impl Report {
    /// The objects that differ.
    pub fn drifted_objects(&self) -> BTreeSet<&str> {
        self.drift.iter().map(|drift| drift.object.as_str()).collect()
    }

    pub(super) fn problem(&mut self, problem: String) {
        tracing::warn!(problem, "reading a provider's API");
        self.problems.push(problem);
    }
}

/// An object that was asked for, and the customer that names it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub read: Read,
    pub customer_id: Option<String>,
}

impl Reconciler {
    /// Compares the objects with ours and, unless it is a dry run, makes them facts. Adds to the report.
    pub(super) async fn absorb(
        &self,
        reads: Vec<Read>,
        mode: Mode,
        scope: Scope,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let asked = reads.into_iter().map(|read| Asked { read, customer_id: None }).collect();
        self.absorb_asked(asked, mode, scope, report).await
    }

    /// As [`Reconciler::absorb`], for objects that may not say whose they are.
    pub(super) async fn absorb_asked(
        &self,
        reads: Vec<Asked>,
        mode: Mode,
        scope: Scope,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        report.objects += reads.len() as u64;
        let events = self.decode(reads, report);
        let owners = self.owners_of(&events).await?;
        let events = leave_out(events, &owners, scope, report);
        let held = self.held(&events).await?;
        let erased = self.erased_among(&events, &held).await?;
        let mut found = Vec::new();
        for event in events.iter().filter_map(|event| as_kept(event, &erased, &held)) {
            for snapshot in event.snapshots() {
                let drift = compare(held.get(&snapshot.key.object_id), snapshot);
                let user = snapshot.owner_id.as_ref().and_then(|owner| owners.get(owner)?.clerk_user_id.clone());
                found.extend(drift.into_iter().map(|drift| Drift { user: user.clone(), ..drift }));
            }
        }
        self.settle(events, found, mode, report).await
    }

    /// Compares what Clerk described with ours and, unless it is a dry run, makes it facts. Adds to the report.
    pub(super) async fn absorb_events(&self, events: Vec<Event>, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        let held = self.held(&events).await?;
        let erased = self.erased_among(&events, &held).await?;
        let mut found = Vec::new();
        for event in events.iter().filter_map(|event| as_kept(event, &erased, &held)) {
            for snapshot in event.snapshots() {
                let drift = compare(held.get(&snapshot.key.object_id), snapshot);
                found.extend(drift.into_iter().map(|drift| Drift { user: drift.customer.clone(), customer: None, ..drift }));
            }
        }
        self.settle(events, found, mode, report).await
    }

    async fn settle(&self, events: Vec<Event>, found: Vec<Drift>, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        if mode == Mode::Apply {
            self.feed(events, report).await?;
            tell(&found);
        }
        report.drift.extend(found);
        Ok(())
    }

    fn decode(&self, reads: Vec<Asked>, report: &mut Report) -> Vec<Event> {
        let mut events = Vec::with_capacity(reads.len());
        for Asked { read, customer_id } in reads {
            let how = ApiRead { as_of: read.as_of, api_version: read.api_version, source: Source::Reconcile };
            match decode_object_of(&read.text, &how, customer_id.as_deref(), &self.rules) {
                Ok(event) => match &event.content {
                    Content::Unreadable { reason } => {
                        let id = event.object_id.as_deref().unwrap_or("an object");
                        report.problem(format!("{id} cannot be read: {reason}"));
                    }
                    Content::Snapshots(_) | Content::Ignored { .. } => events.push(event),
                },
                Err(malformed) => report.problem(format!("an object cannot be read: {}", malformed.0)),
            }
        }
        events
    }

    async fn owners_of(&self, events: &[Event]) -> Result<HashMap<String, CustomerOwner>, ReconcileError> {
        let ids: BTreeSet<&String> = events.iter().filter_map(|event| event.owner_id.as_ref()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let owners = self.store.list_customer_owners(&ids.into_iter().cloned().collect::<Vec<_>>()).await?;
        Ok(owners.into_iter().map(|owner| (owner.owner_id.clone(), owner)).collect())
    }

    async fn held(&self, events: &[Event]) -> Result<HashMap<String, HeldObject>, ReconcileError> {
        let Some(provider) = events.first().map(|event| event.provider.as_str()) else { return Ok(HashMap::new()) };
        let snapshots = events.iter().flat_map(Event::snapshots);
        let ids: Vec<String> = snapshots.map(|snapshot| snapshot.key.object_id.clone()).collect();
        let held = self.store.list_held_objects(provider, &ids).await?;
        Ok(held.into_iter().map(|object| (object.object_id.clone(), object)).collect())
    }

    /// Submits the events; those that the database refuses are told of.
    pub(super) async fn feed(&self, events: Vec<Event>, report: &mut Report) -> Result<(), ReconcileError> {
        let ids: Vec<Option<String>> = events.iter().map(|event| event.object_id.clone()).collect();
        let receipts = self.submit_all(events).await?;
        for (id, receipt) in ids.into_iter().zip(receipts) {
            if receipt.outcome == Outcome::Failed {
                let reason = receipt.reason.unwrap_or_default();
                report.problem(format!("{} was refused: {reason}", id.as_deref().unwrap_or("an object")));
            }
        }
        Ok(())
    }
}

/// Without what lives by a test clock, and without strangers where only linked customers are meant.
fn leave_out(events: Vec<Event>, owners: &HashMap<String, CustomerOwner>, scope: Scope, report: &mut Report) -> Vec<Event> {
    for event in &events {
        if event.snapshots().iter().any(names_test_clock) {
            report.test_clock_customers.extend(event.owner_id.clone());
        }
    }
    let mut kept = Vec::with_capacity(events.len());
    for event in events {
        let owner = event.owner_id.as_ref().and_then(|owner| owners.get(owner));
        let by_customer = event.owner_id.as_ref().is_some_and(|id| report.test_clock_customers.contains(id));
        if by_customer || owner.is_some_and(|owner| owner.test_clock.is_some()) || event.snapshots().iter().any(names_test_clock)
        {
            report.on_test_clocks += 1;
            continue;
        }
        let is_meant = scope == Scope::Everything
            || owner.is_some_and(|owner| owner.clerk_user_id.is_some())
            || !event.clerk_user_ids.is_empty();
        if is_meant {
            kept.push(event);
        }
    }
    kept
}

fn names_test_clock(snapshot: &Snapshot) -> bool {
    let clock = match snapshot.fact.as_deref() {
        Some(Fact::Customer(customer)) => &customer.test_clock,
        Some(Fact::Subscription(subscription)) => &subscription.test_clock,
        Some(Fact::SubscriptionSchedule(schedule)) => &schedule.test_clock,
        _ => return false,
    };
    clock.is_some()
}

/// Counts and logs, by object; the values stay out of the log.
fn tell(found: &[Drift]) {
    let mut by_object: BTreeMap<&str, Vec<&Drift>> = BTreeMap::new();
    for drift in found {
        by_object.entry(&drift.object).or_default().push(drift);
    }
    for (object, drifts) in by_object {
        let Some(first) = drifts.first() else { continue };
        let fields = drifts.iter().map(|drift| drift.field.as_str()).collect::<Vec<_>>().join(", ");
        metrics::count_drift(&first.object_type);
        tracing::info!(
            object,
            object_type = first.object_type,
            user = first.user,
            fields,
            "differed from the provider; corrected"
        );
    }
}
