//! The rebuild: everything derived, worked out anew from the facts, batch by batch. Caches first, since what follows is
//! looked up by them: the columns that facts are found by, the owner rows of Clerk users, those of customers with their links;
//! then the users' rows. Between two batches it can be ended, and run again from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;

use crate::clock::Clock;
use crate::domain::billing::differences::Difference;
use crate::domain::event::ObjectKey;
use crate::domain::rules::Rules;
use crate::ingest::transaction::{self, BatchError, Rebuild, is_clerk_user};
use crate::store::{DerivedColumns, ErrorKind, ObjectCursor, Store, StoreError};

/// Read at a time.
const PAGE: i64 = 1000;

/// Few enough that their locks are held briefly.
const ACCOUNTS_A_TRANSACTION: usize = 32;

/// How often an account that somebody else holds is tried, 200 ms each time: as long as a webhook would wait.
const ATTEMPTS: u32 = 25;

/// What is rebuilt at a time, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Objects,
    ClerkUsers,
    Customers,
    Rows,
}

/// Who watches a rebuild, and may end it between two batches.
pub trait Observer {
    /// So many more of the stage are done.
    fn advanced(&self, stage: Stage, count: u64);
    /// Whether to end now.
    fn is_stopped(&self) -> bool;
}

/// What a rebuild did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub differences: Vec<Difference>,
    pub objects: u64,
    pub customers: u64,
    pub users: u64,
    /// Accounts that somebody else held all the time or that the database refuses: not rebuilt.
    pub left: Vec<String>,
    pub is_stopped: bool,
}

/// Why a rebuild ended early. What was committed stands.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error("nothing is known of the user {0}")]
    UnknownUser(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// What a rebuild works with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub store: &'a Store,
    pub rules: &'a Rules,
    pub clock: &'a Clock,
    /// Write nothing.
    pub dry_run: bool,
}

/// Rebuilds everybody, or one user with every customer that is or might be the user's.
pub async fn rebuild(settings: Settings<'_>, user: Option<&str>, observer: &dyn Observer) -> Result<Report, RebuildError> {
    let mut run = Run { settings, observer, report: Report::default(), unmended: Unmended::default() };
    match user {
        None => run.everybody().await?,
        Some(user) => run.one(user).await?,
    }
    Ok(run.report)
}

struct Run<'a> {
    settings: Settings<'a>,
    observer: &'a dyn Observer,
    report: Report,
    unmended: Unmended,
}

/// What a dry run found wrong and left so: later stages have to work it out once more, in memory.
#[derive(Default)]
struct Unmended {
    /// Customer or Clerk user → the owner rows that bear on it.
    owners: BTreeMap<String, BTreeSet<String>>,
    /// Customer or Clerk user → its objects.
    objects: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Clerk users whose addresses are wrong: they may bear on every customer.
    addresses: BTreeSet<String>,
}

impl Run<'_> {
    async fn everybody(&mut self) -> Result<(), RebuildError> {
        self.objects(None).await?;
        for stage in [Stage::ClerkUsers, Stage::Customers, Stage::Rows] {
            let mut after = String::new();
            loop {
                let ids = self.settings.store.list_account_ids(&after, PAGE).await?;
                let Some(last) = ids.last() else { break };
                after.clone_from(last);
                // A row of `users` that is not Clerk's is nobody's customer either.
                let ids: Vec<String> = ids.into_iter().filter(|id| (stage == Stage::Customers) != is_clerk_user(id)).collect();
                self.accounts(stage, &ids).await?;
                if self.report.is_stopped {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn one(&mut self, user: &str) -> Result<(), RebuildError> {
        let customers = self.settings.store.list_customers_of_user(user).await?;
        let customers = customers.ok_or_else(|| RebuildError::UnknownUser(user.to_owned()))?;
        self.objects(Some(&customers)).await?;
        self.accounts(Stage::ClerkUsers, &[user.to_owned()]).await?;
        self.accounts(Stage::Customers, &customers).await?;
        // Whoever loses or gains a customer by it has other rows too.
        let moved = self.report.differences.iter().filter(|difference| difference.column == "clerk_user_id");
        let users = moved.flat_map(|difference| [difference.stored.as_str(), difference.recomputed.as_str()]);
        let users: BTreeSet<&str> = users.flatten().chain([user]).collect();
        let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
        self.accounts(Stage::Rows, &users).await
    }

    async fn objects(&mut self, owners: Option<&[String]>) -> Result<(), RebuildError> {
        let mut cursor = ObjectCursor::default();
        loop {
            if self.is_stopped() {
                return Ok(());
            }
            let (found, read) = self.settings.store.check_derived(&mut cursor, owners, PAGE).await?;
            if read == 0 {
                return Ok(());
            }
            for batch in found.chunks(ACCOUNTS_A_TRANSACTION) {
                for object in self.mend(batch).await? {
                    self.unmended.note_object(&object, self.settings.dry_run);
                    self.report.differences.extend(object.differences);
                }
            }
            self.report.objects += read;
            self.observer.advanced(Stage::Objects, read);
        }
    }

    async fn mend(&mut self, batch: &[DerivedColumns]) -> Result<Vec<DerivedColumns>, RebuildError> {
        for _ in 0..ATTEMPTS {
            match self.settings.store.mend_derived(batch, self.settings.dry_run).await {
                Err(error) if error.kind() == ErrorKind::Contended => {}
                other => return Ok(other?),
            }
        }
        self.report.left.extend(batch.iter().map(|object| object.key.object_id.clone()));
        Ok(Vec::new())
    }

    async fn accounts(&mut self, stage: Stage, ids: &[String]) -> Result<(), RebuildError> {
        for batch in ids.chunks(ACCOUNTS_A_TRANSACTION) {
            if self.is_stopped() {
                return Ok(());
            }
            self.batch(stage, batch).await?;
            let count = batch.len() as u64;
            match stage {
                Stage::Objects | Stage::ClerkUsers => {}
                Stage::Customers => self.report.customers += count,
                Stage::Rows => self.report.users += count,
            }
            self.observer.advanced(stage, count);
        }
        Ok(())
    }

    /// Halves a batch that is held by somebody else or refused, so that one account does not keep the others from it.
    async fn batch(&mut self, stage: Stage, batch: &[String]) -> Result<(), RebuildError> {
        let mut waiting = vec![(batch, ATTEMPTS)];
        while let Some((part, attempts)) = waiting.pop() {
            let Settings { store, rules, clock, .. } = self.settings;
            match transaction::rebuild(store, &self.plan(stage, part), rules, clock).await {
                Ok(rebuilt) => {
                    self.unmended.note(&rebuilt.differences, self.settings);
                    self.report.differences.extend(rebuilt.differences);
                }
                Err(error @ (BatchError::Contended(_) | BatchError::Poison(_))) => match part {
                    [account] if attempts == 0 || matches!(error, BatchError::Poison(_)) => {
                        tracing::warn!(account = %account, cause = %error, "could not rebuild an account");
                        self.report.left.push(account.clone());
                    }
                    [_] => {
                        // What holds it may answer at once that it is held, rather than let us wait.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        waiting.push((part, attempts - 1));
                    }
                    _ => {
                        let (one, other) = part.split_at(part.len() / 2);
                        waiting.extend([(other, ATTEMPTS), (one, ATTEMPTS)]);
                    }
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn plan(&self, stage: Stage, ids: &[String]) -> Rebuild {
        let ids: BTreeSet<String> = ids.iter().cloned().collect();
        let (known_owners, known_objects) = self.unmended.about(&ids);
        let (owners, users) = if stage == Stage::Rows { (BTreeSet::new(), ids) } else { (ids, BTreeSet::new()) };
        Rebuild { owners, users, known_owners, known_objects, dry_run: self.settings.dry_run }
    }

    fn is_stopped(&mut self) -> bool {
        self.report.is_stopped |= self.observer.is_stopped();
        self.report.is_stopped
    }
}

impl Unmended {
    fn note_object(&mut self, object: &DerivedColumns, dry_run: bool) {
        if dry_run {
            for id in object.owner_id.iter().chain(&object.clerk_user_id) {
                self.objects.entry(id.clone()).or_default().insert(object.key.clone());
            }
        }
    }

    fn note(&mut self, differences: &[Difference], settings: Settings<'_>) {
        if !settings.dry_run {
            return;
        }
        for difference in differences {
            let Some(row) = &difference.row else { continue };
            let mut concerned: Vec<&str> = difference.user_id.as_deref().into_iter().collect();
            match difference.column.as_str() {
                "clerk_user_id" | "claimed_customer_id" | "imported_customer_id" => {
                    concerned.extend([&difference.stored, &difference.recomputed].into_iter().filter_map(|value| value.as_str()));
                }
                "emails" if settings.rules.link_by_verified_email && is_clerk_user(row) => {
                    self.addresses.insert(row.clone());
                }
                _ => {}
            }
            for id in concerned {
                self.owners.entry(id.to_owned()).or_default().insert(row.clone());
            }
        }
    }

    /// The owner rows and objects that bear on the accounts, directly or by one another.
    fn about(&self, ids: &BTreeSet<String>) -> (BTreeSet<String>, Vec<ObjectKey>) {
        let mut owners: BTreeSet<String> = self.addresses.clone();
        let mut waiting: Vec<&String> = ids.iter().chain(&self.addresses).collect();
        while let Some(id) = waiting.pop() {
            for owner in self.owners.get(id).into_iter().flatten() {
                if owners.insert(owner.clone()) {
                    waiting.push(owner);
                }
            }
        }
        let objects = ids.union(&owners).filter_map(|id| self.objects.get(id)).flatten();
        let objects: BTreeSet<ObjectKey> = objects.cloned().collect();
        (owners, objects.into_iter().collect())
    }
}
