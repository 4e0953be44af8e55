//! Connections, and how work gets onto one: in a [`Tx`], or as a single statement where that is safe.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Execute, FromRow, PgConnection, PgPool};

use crate::domain::billing::plan::Catalog;
use crate::domain::billing::stored::{Loaded, Owner};
use crate::store::error::{ErrorKind, StoreError, unreachable_server};
use crate::store::gathering::Gatherings;
use crate::store::hints::{Hinted, Hints};
use crate::store::locks::LockSet;
use crate::store::plan_log::PlanLog;
use crate::store::session::{self, SettingsWay};
pub use crate::store::tx::Tx;
pub(crate) use crate::store::tx::{RowQuery, Statement};

/// How long to look for the reason why no connection came free.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(1);

/// A batch's reads and writes go by index, and in the index's order, whatever the statistics say: a fresh database has
/// none, and a plan made for an empty table would scan a full one. So plans are made once per connection and never depend
/// on the tables' size.
pub const BEGIN_BATCH: &str = "begin isolation level read committed; set local lock_timeout = '200ms'; \
    set local statement_timeout = '10s'; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off; set local enable_sort = off; set local jit = off";

/// How long a connection may have been idle before it is asked whether it still works.
const IDLE_UNTIL_ASKED: Duration = Duration::from_secs(1);

statements! {
    /// Of every table that we write: whether row-level security would hide its rows from our own role.
    HIDDEN_TABLES = "select format('%I.%I', n.nspname, c.relname), current_user::text \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where n.nspname in ('public', 'billsync') and c.relkind in ('r', 'p') \
          and (n.nspname = 'billsync' or c.relname = any(array['users', 'user_subscriptions', 'user_billing', 'user_usage', \
            'user_system_data', 'subscription_plans', 'campaigns', 'scraping_jobs', 'scraping_results', 'creator_lists', \
            'list_items', 'system_configurations'])) \
          and row_security_active(c.oid) order by 1";
}

/// How long a read may take. The caller is told to come back then.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// What stands between us and Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolerMode {
    /// Nothing, or a pooler in session mode: prepared statements and session settings last.
    #[default]
    Session,
    /// A pooler in transaction mode: every statement unnamed, nothing set for longer than a transaction.
    Transaction,
}

/// How to reach the database.
#[derive(Clone)]
pub struct StoreSettings {
    /// `postgres://…`; may name a Unix socket.
    pub url: String,
    /// A direct connection for migrations, whose lock lasts longer than a transaction; the same database.
    pub migration_url: Option<String>,
    pub pooler: PoolerMode,
    pub max_connections: u32,
    /// How long to wait for a free or new connection.
    pub acquire_timeout: Duration,
}

impl StoreSettings {
    /// The defaults for a database URL: ten connections, enough for the writers, what they set aside, and the API.
    pub fn new(url: impl Into<String>) -> StoreSettings {
        StoreSettings {
            url: url.into(),
            migration_url: None,
            pooler: PoolerMode::Session,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings").field("url", &"[redacted]").field("pooler", &self.pooler).finish_non_exhaustive()
    }
}

/// A pool of connections to the application's database. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Where the plans of reads are noted, if anybody wants to know.
    plans: Option<PlanLog>,
}

struct Inner {
    pool: PgPool,
    pooler: PoolerMode,
    max_connections: u32,
    migration_options: PgConnectOptions,
    /// Whether migrations go the way of the pool, which has been looked at.
    is_migration_session_proven: bool,
    explaining: tokio::sync::Mutex<()>,
    /// The plan catalog with the version of the rows that it was made of.
    catalog: Mutex<Option<(String, Arc<Catalog>)>>,
    hints: Mutex<Hints>,
    gatherings: Gatherings,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("pooler", &self.inner.pooler).finish_non_exhaustive()
    }
}

impl Store {
    /// Prepares the pool; nothing is connected yet.
    pub fn new(settings: &StoreSettings) -> Result<Store, StoreError> {
        Store::build(
            settings,
            match settings.pooler {
                PoolerMode::Session => SettingsWay::AtStart,
                PoolerMode::Transaction => SettingsWay::Never,
            },
        )
    }

    fn build(settings: &StoreSettings, way: SettingsWay) -> Result<Store, StoreError> {
        let plain = session::plain_options(&settings.url)?;
        let options = match way {
            SettingsWay::AtStart => session::with_settings(plain),
            SettingsWay::ByStatement => plain,
            // A pooler may hand a named statement to a stranger.
            SettingsWay::Never => plain.statement_cache_capacity(0),
        };
        let migration_options = session::plain_options(settings.migration_url.as_ref().unwrap_or(&settings.url))?;
        let is_migration_session_proven = settings.pooler == PoolerMode::Session && settings.migration_url.is_none();
        let max_connections = settings.max_connections.max(1);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(settings.acquire_timeout)
            // A round trip a transaction; a connection found broken at BEGIN is replaced instead.
            .test_before_acquire(false)
            // A statement without a BEGIN cannot be repeated, so one that has been idle is asked first.
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if state.idle_for > IDLE_UNTIL_ASKED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _meta| {
                Box::pin(async move {
                    match way {
                        SettingsWay::ByStatement => session::set(connection).await,
                        SettingsWay::AtStart | SettingsWay::Never => Ok(()),
                    }
                })
            })
            .max_lifetime(Duration::from_secs(1800))
            .idle_timeout(Duration::from_secs(600))
            .connect_lazy_with(options);
        let inner = Inner {
            pool,
            pooler: settings.pooler,
            max_connections,
            migration_options,
            is_migration_session_proven,
            explaining: tokio::sync::Mutex::new(()),
            catalog: Mutex::new(None),
            hints: Mutex::default(),
            gatherings: Gatherings::default(),
        };
        Ok(Store { inner: Arc::new(inner), plans: None })
    }

    /// Prepares the pool and makes sure that a supported server answers, and that its sessions are ours unless `pooler` says
    /// otherwise.
    pub async fn connect(settings: &StoreSettings) -> Result<Store, StoreError> {
        let store = Store::new(settings)?;
        let version = match store.describe_session().await {
            Ok((version, true)) => Ok(version),
            Ok((version, false)) if settings.pooler == PoolerMode::Transaction => Ok(version),
            Err(error) if !session::is_refused_at_start(&error) => Err(store.explain_unavailable(error).await),
            // Something in between keeps our settings from the server.
            Ok(_) | Err(_) => return Store::connect_by_statement(settings).await,
        };
        session::refuse_old(version?)?;
        Ok(store)
    }

    /// For a pooler that keeps sessions, but not what they ask for when they start.
    async fn connect_by_statement(settings: &StoreSettings) -> Result<Store, StoreError> {
        session::refuse_shared(&session::plain_options(&settings.url)?, session::SHARED_SESSIONS).await?;
        let store = Store::build(settings, SettingsWay::ByStatement)?;
        let (version, _) = store.describe_session().await.map_err(unreachable_server)?;
        session::refuse_old(version)?;
        Ok(store)
    }

    async fn describe_session(&self) -> Result<(i32, bool), sqlx::Error> {
        session::describe(&mut *self.inner.pool.acquire().await?).await
    }

    /// Asks the database for an answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.begin().await?.commit().await
    }

    /// Refuses a role that row-level security applies to: its updates would silently touch nothing.
    pub async fn verify_role(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let hidden: Vec<(String, String)> = tx.query_as(HIDDEN_TABLES).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        let Some((table, role)) = hidden.first() else { return Ok(()) };
        let message = format!(
            "row-level security hides {table} ({} tables in all) from the role \"{role}\": its updates would touch nothing. \
             Connect as the owner of the tables, or run as a superuser: alter role \"{role}\" bypassrls",
            hidden.len()
        );
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }

    /// Begins a transaction for a read or a small write.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_with("begin; set local statement_timeout = '10s'; set local lock_timeout = '2s'").await
    }

    /// What one statement reads, planned once per connection: a single round trip, but behind a transaction pooler, where
    /// everything needs a transaction.
    pub(crate) async fn read<O>(&self, sql: &'static str, bind: impl Fn(RowQuery<O>) -> RowQuery<O>) -> Result<Vec<O>, StoreError>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.read_with(sql, self.inner.pooler == PoolerMode::Session, bind).await
    }

    /// The same database with a log of how the server goes about each read.
    pub fn logging_plans(&self) -> (Store, PlanLog) {
        let log = PlanLog::default();
        (Store { inner: Arc::clone(&self.inner), plans: Some(log.clone()) }, log)
    }

    /// As [`Self::read`], planned for the values that are bound: for statements with filters that may be absent.
    pub(crate) async fn read_planned<O>(
        &self,
        sql: &'static str,
        bind: impl Fn(RowQuery<O>) -> RowQuery<O>,
    ) -> Result<Vec<O>, StoreError>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.read_with(sql, false, bind).await
    }

    /// Runs `work` in one transaction, and undoes it if it fails.
    pub(crate) async fn within<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tx = self.begin().await?;
        let done = work(&mut tx).await;
        tx.end(done).await
    }

    async fn read_with<O>(
        &self,
        sql: &'static str,
        persistent: bool,
        bind: impl Fn(RowQuery<O>) -> RowQuery<O>,
    ) -> Result<Vec<O>, StoreError>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if self.inner.pooler == PoolerMode::Transaction {
            let mut tx = self.begin().await?;
            let rows = bind(tx.query_as(sql)).fetch_all(tx.connection()?).await?;
            tx.commit().await?;
            return Ok(rows);
        }
        let mut attempts = self.inner.max_connections;
        loop {
            let mut connection = self.inner.pool.acquire().await.map_err(unreachable_server)?;
            if let Some(plans) = &self.plans {
                let arguments = bind(sqlx::query_as(sql)).take_arguments().ok().flatten();
                plans.explain(&mut connection, sql, arguments.unwrap_or_default()).await?;
            }
            let query = bind(sqlx::query_as(sql).persistent(persistent));
            let error = match tokio::time::timeout(READ_PATIENCE, query.fetch_all(&mut *connection)).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => StoreError::from(error),
                Err(_elapsed) => {
                    connection.close_on_drop();
                    return Err(StoreError::new(ErrorKind::Contended, "a read took too long"));
                }
            };
            if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Unavailable) {
                connection.close_on_drop();
            }
            // A server that restarted leaves the pool full of dead connections, and a read may be repeated.
            if error.kind() != ErrorKind::ConnectionLost || attempts == 0 {
                return Err(error);
            }
            attempts -= 1;
        }
    }

    /// Begins the transaction of a batch and takes its first locks, in one round trip.
    pub async fn begin_batch(&self, locks: &LockSet) -> Result<Tx, StoreError> {
        self.begin_with(&format!("{BEGIN_BATCH}; {}", locks.first_sql())).await
    }

    /// For a single statement, which commits by itself: one round trip in place of three. Behind a transaction pooler, where a
    /// statement alone is not safe, a transaction that begins with `sql`.
    pub(crate) async fn begin_single(&self, sql: &str) -> Result<Tx, StoreError> {
        if self.inner.pooler == PoolerMode::Transaction {
            return self.begin_with(sql).await;
        }
        let connection = self.inner.pool.acquire().await.map_err(unreachable_server)?;
        Ok(Tx::single(connection))
    }

    /// Begins a transaction with several statements in one round trip.
    pub(crate) async fn begin_with(&self, sql: &str) -> Result<Tx, StoreError> {
        let mut attempts = self.inner.max_connections;
        loop {
            let connection = match self.inner.pool.acquire().await {
                Ok(connection) => connection,
                Err(error) => return Err(self.explain_unavailable(error).await),
            };
            let persistent = self.inner.pooler == PoolerMode::Session;
            let mut tx = Tx::begun(connection, persistent);
            match tx.execute_raw(sql.to_owned()).await {
                Ok(()) => return Ok(tx),
                // A server that restarted leaves the pool full of dead connections; nothing has been done on this one.
                Err(error) if error.kind() == ErrorKind::ConnectionLost && attempts > 0 => attempts -= 1,
                Err(error) => {
                    tx.roll_back_after(&error).await;
                    return Err(error);
                }
            }
        }
    }

    /// The pool waits while a server refuses connections, and then tells only that none came free: one attempt of our own
    /// tells why. One at a time, so that a crowd that waits for a busy pool does not ask for connections beside it.
    async fn explain_unavailable(&self, error: sqlx::Error) -> StoreError {
        if matches!(error, sqlx::Error::PoolTimedOut)
            && let Ok(_only_one) = self.inner.explaining.try_lock()
            && let Ok(Err(cause)) =
                tokio::time::timeout(EXPLANATION_TIMEOUT, PgConnection::connect_with(&self.inner.pool.connect_options())).await
        {
            return unreachable_server(cause);
        }
        unreachable_server(error)
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// A connection of its own, outside the pool, for migrations: their statements may take long, and none is told for that.
    pub(crate) async fn connect_directly(&self) -> Result<PgConnection, StoreError> {
        let options = &self.inner.migration_options;
        if !self.inner.is_migration_session_proven {
            session::refuse_shared(options, session::SHARED_MIGRATIONS).await?;
        }
        PgConnection::connect_with(&options.clone().disable_statement_logging()).await.map_err(unreachable_server)
    }

    /// Where callers who want the same at the same moment come together; nowhere for one who wants to know each plan.
    pub(crate) fn gatherings(&self) -> Option<&Gatherings> {
        self.plans.is_none().then_some(&self.inner.gatherings)
    }

    /// What batches that concerned these customers had to lock and read beside them when they were last seen.
    pub(crate) fn hints_of<'a>(&self, customers: impl Iterator<Item = &'a str>) -> Hinted {
        self.inner.hints.lock().unwrap_or_else(std::sync::PoisonError::into_inner).of(customers)
    }

    /// Notes what was read.
    pub(crate) fn note_loaded(&self, loaded: &Loaded) {
        self.inner.hints.lock().unwrap_or_else(std::sync::PoisonError::into_inner).note(loaded);
    }

    /// Notes whom customers are linked to.
    pub(crate) fn note_links(&self, owners: &[Owner]) {
        let mut hints = self.inner.hints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        owners.iter().for_each(|owner| hints.note_link(owner));
    }

    /// The catalog as it was when its rows had this version.
    pub(crate) fn cached_catalog(&self, version: &str) -> Option<Arc<Catalog>> {
        let cached = self.inner.catalog.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cached.as_ref().filter(|(known, _)| known == version).map(|(_, catalog)| catalog.clone())
    }

    pub(crate) fn cache_catalog(&self, version: String, catalog: Arc<Catalog>) {
        let mut cached = self.inner.catalog.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *cached = Some((version, catalog));
    }
}
