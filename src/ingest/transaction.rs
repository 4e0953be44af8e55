//! One batch of events in one transaction: lock, load, fold, write, commit.

mod erased;
mod fresh;
mod imported;
mod operator;
mod profile;
mod rebuilding;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use thiserror::Error;
use uuid::{NoContext, Timestamp, Uuid};

use crate::clock::Clock;
use crate::domain::billing::accounts::{Accounts, Applied, Context};
use crate::domain::billing::rows::Effect;
use crate::domain::billing::stored::{Alert, Changes};
use crate::domain::erasure::Erased;
use crate::domain::event::{Content, Event, Outcome, Payload, Provider, Source};
use crate::domain::rules::Rules;
use crate::metrics;
use crate::store::{
    Concerned, ErrorKind, LedgerEntry, Missing, OwnChange, Store, StoreError, Tx, Updated, load_first, load_second, probe_writes,
    write_batch,
};

pub use imported::{ImportedUser, commit_imports};
pub use operator::{OperatorChange, OperatorLinked, OperatorWord, link_by_operator};
pub use profile::{ensure_user, update_user};
pub use rebuilding::{Rebuild, Rebuilt, is_clerk_user, rebuild};

use self::erased::Erasures;
use self::fresh::Fresh;
use self::profile::ProfileChange;
use self::rebuilding::Rebuilding;
use self::refused::{without_content, without_owner};

/// How often a batch may find that it has to lock more before it is given up as contended.
const ATTEMPTS: usize = 6;

/// What became of one event of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub outcome: Outcome,
    pub reason: Option<String>,
}

/// Why a batch did not commit; says whether and how a retry can help. Nothing of the batch is kept.
#[derive(Debug, Error)]
pub enum BatchError {
    /// 55P03, 40P01, 40001, 57014: somebody else holds what it needs. Halve and retry.
    #[error("contended: {0}")]
    Contended(String),
    /// Classes 22, 23, 54: an event that Postgres refuses. Bisect.
    #[error("refused by the database: {0}")]
    Poison(String),
    /// The connection broke, perhaps during COMMIT: run the batch once more.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// Everything else: the senders retry.
    #[error("database unavailable: {0}")]
    Unavailable(String),
}

impl From<StoreError> for BatchError {
    fn from(error: StoreError) -> BatchError {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Contended => BatchError::Contended(text),
            ErrorKind::Refused => BatchError::Poison(text),
            ErrorKind::ConnectionLost => BatchError::ConnectionLost(text),
            ErrorKind::Unavailable => BatchError::Unavailable(text),
        }
    }
}

/// Commits the events, in order. One receipt per event, in the same order. Without events it tries every statement of a
/// commit on nothing and undoes it: whether the database would take one.
pub async fn commit(store: &Store, events: &[Arc<Event>], rules: &Rules, clock: &Clock) -> Result<Vec<Receipt>, BatchError> {
    if events.is_empty() {
        probe(store, rules, clock).await?;
        return Ok(Vec::new());
    }
    let work = Work::Events(events);
    let done = run(store, Concerned::new(events, rules), &work, rules, clock).await?;
    Ok(done.receipts)
}

/// What an event would do.
#[derive(Clone, Debug)]
pub struct Preview {
    pub receipt: Receipt,
    pub effects: Vec<Effect>,
}

/// Tells what [`commit`] would do with the events, one after the other in one transaction, and undoes it.
pub async fn preview(store: &Store, events: &[Arc<Event>], rules: &Rules, clock: &Clock) -> Result<Vec<Preview>, BatchError> {
    let work = Work::Preview(events);
    let done = run(store, Concerned::new(events, rules), &work, rules, clock).await?;
    let mut effects = done.effects.into_iter();
    let preview = |receipt: Receipt| {
        let effects = if receipt.outcome == Outcome::Duplicate { None } else { effects.next() };
        Preview { receipt, effects: effects.unwrap_or_default() }
    };
    Ok(done.receipts.into_iter().map(preview).collect())
}

/// Records an event that Postgres refuses as `failed`, in a transaction of its own: the payload as bytes, and its owner's
/// rows as out of step.
pub async fn commit_failed(
    store: &Store,
    event: &Event,
    reason: &str,
    rules: &Rules,
    clock: &Clock,
) -> Result<Receipt, BatchError> {
    let bare = [Arc::new(without_content(event))];
    let work = Work::Refused { event: &bare[0], reason };
    let concerned = Concerned::new(&bare, rules);
    let done = match run(store, concerned, &work, rules, clock).await {
        // The owner's rows are refused as well: the ledger alone has to do.
        Err(BatchError::Poison(_)) => {
            let work = Work::Refused { event: &Arc::new(without_owner(&bare[0])), reason };
            run(store, Concerned::new(&[], rules), &work, rules, clock).await?
        }
        other => other?,
    };
    done.receipts.into_iter().next().ok_or_else(|| BatchError::Unavailable("an event got no receipt".into()))
}

/// As [`reproject_because`], where nothing more is known of the cause.
pub async fn reproject(
    store: &Store,
    customers: &[String],
    clerk_ids: &[String],
    rules: &Rules,
    clock: &Clock,
) -> Result<usize, BatchError> {
    reproject_because("reproject", store, customers, clerk_ids, rules, clock).await
}

/// Re-projects users and links customers anew, without an event: the catalog, the clock or the operator spoke. The ledger
/// gets an entry of the type `cause`, source `job`, for every user whose rows changed. Returns how many did.
pub async fn reproject_because(
    cause: &'static str,
    store: &Store,
    customers: &[String],
    clerk_ids: &[String],
    rules: &Rules,
    clock: &Clock,
) -> Result<usize, BatchError> {
    let work = Work::Accounts { cause, customers, clerk_ids, change: None };
    Ok(run(store, Concerned::of_accounts(customers, clerk_ids, rules), &work, rules, clock).await?.users)
}

/// What is to be done under the locks.
enum Work<'a> {
    Events(&'a [Arc<Event>]),
    /// The same, undone.
    Preview(&'a [Arc<Event>]),
    Refused {
        event: &'a Arc<Event>,
        reason: &'a str,
    },
    /// `change` comes before the projection, which follows from it.
    Accounts {
        cause: &'static str,
        customers: &'a [String],
        clerk_ids: &'a [String],
        change: Option<&'a ProfileChange>,
    },
    /// Events, and what the application owns of their users.
    Imports {
        events: &'a [Arc<Event>],
        own: &'a [OwnChange],
        /// As of when each user's import was that `own` goes by.
        seen: &'a [Option<DateTime<Utc>>],
    },
    Operator(&'a OperatorChange),
    Rebuild(&'a Rebuild),
}

impl Work<'_> {
    fn events(&self) -> &[Arc<Event>] {
        match self {
            Work::Events(events) | Work::Preview(events) | Work::Imports { events, .. } => events,
            Work::Refused { event, .. } => std::slice::from_ref(event),
            Work::Accounts { .. } | Work::Operator(_) | Work::Rebuild(_) => &[],
        }
    }

    /// Whether nothing is written before everything was read.
    fn writes_last(&self) -> bool {
        !matches!(self, Work::Accounts { change: Some(_), .. })
    }

    fn is_dry_run(&self) -> bool {
        match self {
            Work::Preview(_) => true,
            Work::Rebuild(rebuild) => rebuild.dry_run,
            Work::Events(_) | Work::Refused { .. } | Work::Accounts { .. } | Work::Imports { .. } | Work::Operator(_) => false,
        }
    }
}

#[derive(Debug, Default)]
struct Done {
    receipts: Vec<Receipt>,
    /// Of a preview: of each event that is no duplicate.
    effects: Vec<Vec<Effect>>,
    /// Users whose rows were written.
    users: usize,
    alerts: Vec<Alert>,
    /// What became of a [`ProfileChange`].
    updated: Option<Updated>,
    linked: OperatorLinked,
    rebuilt: Rebuilt,
}

enum Attempt {
    Done(Done),
    Widen(Missing),
}

async fn run(store: &Store, mut concerned: Concerned, work: &Work<'_>, rules: &Rules, clock: &Clock) -> Result<Done, BatchError> {
    for _ in 0..ATTEMPTS {
        if work.writes_last() {
            concerned
                .foresee(store, |concerned, clerk_ids| Erasures::id_hashes(&Erasures::candidates(work, concerned, clerk_ids)));
        }
        let mut tx = store.begin_batch(concerned.locks()).await?;
        match attempt(store, &mut tx, &concerned, work, rules, clock).await {
            Ok(Attempt::Done(done)) if work.is_dry_run() => {
                tx.rollback().await;
                return Ok(done);
            }
            Ok(Attempt::Done(done)) => {
                tx.commit().await?;
                raise(&done.alerts);
                return Ok(done);
            }
            Ok(Attempt::Widen(missing)) => {
                tx.rollback().await;
                concerned.widen(&missing);
            }
            Err(error) => {
                tx.roll_back_after(&error).await;
                return Err(error.into());
            }
        }
    }
    Err(BatchError::Contended("the accounts concerned keep changing".into()))
}

async fn attempt(
    store: &Store,
    tx: &mut Tx,
    concerned: &Concerned,
    work: &Work<'_>,
    rules: &Rules,
    clock: &Clock,
) -> Result<Attempt, StoreError> {
    let mut first = load_first(tx, concerned).await?;
    let fresh = Fresh::of(work.events(), &first);
    if fresh.is_empty() && !work.events().is_empty() {
        return Ok(Attempt::Done(Done { receipts: fresh.receipts(&[]), ..Done::default() }));
    }
    if !first.missing.is_nothing() {
        return Ok(Attempt::Widen(first.missing));
    }
    if first.locks_out_of_order(concerned) {
        return Ok(Attempt::Widen(Missing { clerk_ids: first.clerk_ids, ..Missing::default() }));
    }
    if !tx.lock_clerk_users(concerned.locks(), &first.clerk_ids).await? {
        return Ok(Attempt::Widen(Missing { clerk_ids: first.clerk_ids, ..Missing::default() }));
    }
    // Once, and after the last lock: a batch that waited must not project a past that another has overtaken. Postgres keeps
    // microseconds, and the ledger's row has to name the payload's exactly.
    let now = clock.now().trunc_subsecs(6);
    let updated = work.change(tx, now).await?;
    if matches!(updated, Some(Updated::UnknownUser | Updated::UnknownEmail(_))) {
        return Ok(Attempt::Done(Done { updated, ..Done::default() }));
    }
    let (clerk_ids, catalog_version) = (first.clerk_ids.clone(), first.catalog_version.clone());
    let candidates = Erasures::candidates(work, concerned, &clerk_ids);
    first.id_hashes = Erasures::id_hashes(&candidates);
    let second = load_second(tx, concerned, first).await?;
    if !second.missing.is_nothing() {
        return Ok(Attempt::Widen(second.missing));
    }
    store.note_loaded(&second.loaded);
    let catalog = store.load_catalog(tx, catalog_version).await?;
    let mut erasures = Erasures::new(Erased::among(&candidates, &second.erased));
    let context = Context { catalog: &catalog, rules, now };
    let mut accounts = Accounts::new(second.loaded);
    work.refuse_if_overtaken(&accounts)?;
    let done = match work {
        Work::Rebuild(rebuild) => Rebuilding::load(tx, rebuild, rules).await?.apply(&mut accounts, context),
        _ => apply(&mut accounts, work, &fresh, &mut erasures, context),
    };
    let changes = accounts.into_changes();
    store.note_links(&changes.owners);
    let missing = unlocked(&changes, concerned, &clerk_ids);
    if !missing.is_nothing() {
        return Ok(Attempt::Widen(missing));
    }
    if work.is_dry_run() {
        let receipts = fresh.receipts(&done.told);
        let effects = done.told.into_iter().map(|told| told.applied.effects).collect();
        return Ok(Attempt::Done(Done { receipts, effects, rebuilt: done.rebuilt, ..Done::default() }));
    }
    write_batch(tx, &changes, &entries(work, &fresh, &done, now), &second.user_ids, now).await?;
    work.write_beside(tx).await?;
    erasures.record(tx, now).await?;
    if let Work::Operator(change) = work
        && !done.linked.refused
    {
        change.record(tx).await?;
    }
    let receipts = fresh.receipts(&done.told);
    let Folded { linked, rebuilt, .. } = done;
    Ok(Attempt::Done(Done {
        receipts,
        effects: Vec::new(),
        users: changes.users.len(),
        alerts: changes.alerts,
        updated,
        linked,
        rebuilt,
    }))
}

/// What the fold answered: one entry per fresh event, or the events that the ledger gets in place of any.
#[derive(Debug, Default)]
struct Folded {
    own_events: Vec<Event>,
    told: Vec<Told>,
    linked: OperatorLinked,
    rebuilt: Rebuilt,
}

/// What one event did, and whether the ledger gets to know.
#[derive(Debug)]
struct Told {
    applied: Applied,
    in_ledger: bool,
    /// What the ledger gets in place of the event, whose subject was erased.
    stand_in: Option<Event>,
}

fn apply(accounts: &mut Accounts, work: &Work<'_>, fresh: &Fresh, erasures: &mut Erasures, context: Context<'_>) -> Folded {
    match work {
        Work::Events(events) | Work::Preview(events) | Work::Imports { events, .. } => {
            let events = fresh.indexes().filter_map(|i| events.get(i));
            Folded { told: events.map(|event| erasures.apply(accounts, event, context)).collect(), ..Folded::default() }
        }
        Work::Refused { event, reason } => {
            let effects = accounts.apply_failed(event, context);
            let applied = Applied { outcome: Outcome::Failed, reason: Some((*reason).to_owned()), effects };
            let stand_in = erasures.stand_in(event);
            Folded { told: vec![Told { applied, in_ledger: true, stand_in }], ..Folded::default() }
        }
        Work::Accounts { cause, customers, clerk_ids, change: _ } => {
            let mut effects: Vec<Effect> = Vec::new();
            for customer_id in *customers {
                effects.extend(accounts.relink(customer_id, context));
            }
            for clerk_id in *clerk_ids {
                effects.extend(accounts.reproject(clerk_id, context));
            }
            job_events(cause, effects, context.now)
        }
        Work::Operator(change) => change.apply(accounts, erasures, context),
        Work::Rebuild(_) => Folded::default(),
    }
}

/// An event of our own per user whose rows changed, so that the ledger explains also what no provider's event caused.
fn job_events(cause: &str, effects: Vec<Effect>, now: DateTime<Utc>) -> Folded {
    let mut by_user: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
    for effect in effects {
        by_user.entry(effect.user_id.clone()).or_default().push(effect);
    }
    let mut folded = Folded::default();
    for (user_id, effects) in by_user {
        folded.own_events.push(job_event(cause, user_id, now));
        let applied = Applied { outcome: Outcome::Applied, reason: None, effects };
        folded.told.push(Told { applied, in_ledger: true, stand_in: None });
    }
    folded
}

fn job_event(cause: &str, user_id: String, now: DateTime<Utc>) -> Event {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()));
    Event {
        // Its owner is a Clerk user; `source` says that Clerk has not spoken.
        provider: Provider::Clerk,
        id: format!("job_{id}"),
        event_type: cause.to_owned(),
        occurred_at: now,
        api_version: None,
        livemode: None,
        account: String::new(),
        source: Source::Job,
        object_id: Some(user_id.clone()),
        owner_id: Some(user_id.clone()),
        customer_ids: Vec::new(),
        clerk_user_ids: vec![user_id],
        payload: Payload { text: "{}".into(), fits_jsonb: true },
        content: Content::Ignored { reason: String::new() },
    }
}

/// An API read or a job is no news unless it changed a fact or a column: else every hourly comparison would fill the ledger.
fn apply_event(accounts: &mut Accounts, event: &Event, context: Context<'_>) -> Told {
    if event.source.counts_as_newest_event() {
        return Told { applied: accounts.apply(event, context), in_ledger: true, stand_in: None };
    }
    let facts = |accounts: &Accounts| -> Vec<_> {
        let objects = event.snapshots().iter().map(|snapshot| accounts.object(&snapshot.key));
        objects.map(|object| object.map(|object| (object.fact.clone(), object.deleted_at))).collect()
    };
    let before = facts(accounts);
    let applied = accounts.apply(event, context);
    let changed = !applied.effects.is_empty() || facts(accounts) != before;
    let in_ledger = changed || applied.outcome == Outcome::Failed;
    Told { applied, in_ledger, stand_in: None }
}

fn entries<'a>(work: &'a Work<'_>, fresh: &Fresh, folded: &'a Folded, now: DateTime<Utc>) -> Vec<LedgerEntry<'a>> {
    let events = work.events();
    let payload_as_bytes = matches!(work, Work::Refused { .. });
    let fresh_events = fresh.indexes().filter_map(|index| events.get(index).map(Arc::as_ref));
    let told = fresh_events.chain(&folded.own_events).zip(&folded.told).filter(|(_, told)| told.in_ledger);
    let written = told.map(|(event, Told { applied, stand_in, .. })| LedgerEntry {
        event: stand_in.as_ref().unwrap_or(event),
        outcome: applied.outcome,
        reason: applied.reason.as_deref(),
        effects: &applied.effects,
        received_at: fresh.received_at.get(&event.key()).copied().unwrap_or(now),
        had_failed: fresh.received_at.contains_key(&event.key()),
        payload_as_bytes,
    });
    let mut entries: Vec<LedgerEntry<'a>> = written.collect();
    entries.sort_by(|a, b| (a.event.provider, &a.event.id).cmp(&(b.event.provider, &b.event.id)));
    entries
}

/// What the fold changed without a lock on it: a relation that the loads did not foresee.
fn unlocked(changes: &Changes, concerned: &Concerned, clerk_ids: &BTreeSet<String>) -> Missing {
    let mut missing = Missing::default();
    let locked = |id: &String| concerned.has_customer(id) || clerk_ids.contains(id);
    for owner in changes.owners.iter().filter(|owner| !locked(&owner.owner_id)) {
        // A Clerk user's row never says whose it is.
        let is_clerk_user = owner.owner_id.starts_with("user_") || owner.claimed_customer_id.is_some();
        let ids = if is_clerk_user { &mut missing.clerk_ids } else { &mut missing.customers };
        ids.insert(owner.owner_id.clone());
    }
    missing.clerk_ids.extend(changes.users.iter().map(|user| &user.user_id).filter(|id| !clerk_ids.contains(*id)).cloned());
    missing
}

/// Alerts are counted only when the batch that raised them stands.
fn raise(alerts: &[Alert]) {
    for alert in alerts {
        tracing::warn!(alert = alert.name, subject = %alert.subject, "alert");
        metrics::count_alert(alert.name);
    }
}

async fn probe(store: &Store, rules: &Rules, clock: &Clock) -> Result<(), BatchError> {
    let mut tx = store.begin_batch(Concerned::new(&[], rules).locks()).await?;
    let result = match load_first(&mut tx, &Concerned::new(&[], rules)).await {
        Ok(_first) => probe_writes(&mut tx, clock.now()).await,
        Err(error) => Err(error),
    };
    match &result {
        Ok(()) => tx.rollback().await,
        Err(error) => tx.roll_back_after(error).await,
    }
    Ok(result?)
}
