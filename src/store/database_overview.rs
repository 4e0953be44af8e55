//! What `inspect db` asks: sizes, rows, users that lack rows, rows without their user, statements that cost most. Nothing
//! here locks or writes.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::expected_schema::{ExpectedSchema, TableName, quote};
use crate::store::pool::{Store, Tx};

/// How many ids a finding names.
const EXAMPLES: i32 = 5;
/// Up to this size the rows of a table are counted, beyond it they are estimated.
const COUNTED_BYTES: i64 = 64 << 20;
/// What the extension's view answers while its library is not loaded: object_not_in_prerequisite_state.
const NOT_LOADED: &str = "SQLSTATE 55000";
/// These read whole tables: they may take longer than what webhooks wait for.
const BEGIN_READING: &str = "begin read only; set local statement_timeout = '60s'; set local lock_timeout = '2s'";

/// Rows of one table that refer to a row of another that is not there.
macro_rules! orphan_rows {
    ($child:literal, $column:literal, $parent:literal, $key:literal) => {
        concat!(
            "from ",
            $child,
            " c where c.",
            $column,
            " is not null and not exists (select from ",
            $parent,
            " p where p.",
            $key,
            " = c.",
            $column,
            ")"
        )
    };
}

/// How many of them there are, the first ids, and what takes them away.
macro_rules! orphans {
    ($child:literal, $column:literal, $shown:literal, $parent:literal, $key:literal) => {
        concat!(
            "select '",
            $child,
            "' as relation, '",
            $column,
            " is in no row of ",
            $parent,
            ".",
            $key,
            "' as what, \
                (select count(*) ",
            orphan_rows!($child, $column, $parent, $key),
            ") as rows, \
                array(select c.",
            $shown,
            "::text ",
            orphan_rows!($child, $column, $parent, $key),
            " order by 1 limit $1) as examples, \
                'delete ",
            orphan_rows!($child, $column, $parent, $key),
            ";   -- look at them first' as fix"
        )
    };
}

/// Users that lack their row in a table. Who has facts gets it back from them.
macro_rules! rowless {
    ($table:literal) => {
        concat!(
            "select '", $table, "' as relation, 'users have no row' as what, count(*) as rows, \
                coalesce((array_agg(u.user_id order by u.user_id))[1:$1], '{}') as examples, \
                'billsync rebuild --user ' || min(u.user_id) || '   # without facts: billsync users ensure ' || min(u.user_id) as fix \
            from public.users u where not exists (select from ", $table, " t where t.user_id = u.id)"
        )
    };
}

statements! {
    /// Tables of `public` and `billsync` but for partitions, which are counted to their table, and for those of extensions.
    LIST_TABLES = "\
        select n.nspname::text as schema_name, t.relname::text as name, \
            n.nspname = 'billsync' or t.relname = any($1) as is_ours, t.relrowsecurity as has_row_security, \
            z.partitions::int8 as partitions, z.rows::int8 as rows_estimate, z.is_analyzed, z.heap::int8 as heap_bytes, \
            z.indexes::int8 as index_bytes, z.total::int8 as total_bytes, z.dead::int8 as dead_rows, \
            pg_catalog.has_table_privilege(t.oid, 'SELECT') as is_readable \
        from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace \
        cross join lateral ( \
            select count(*) filter (where c.oid <> t.oid) as partitions, \
                sum(case when c.reltuples >= 0 then c.reltuples else pg_catalog.pg_stat_get_live_tuples(c.oid) end) as rows, \
                bool_and(c.reltuples >= 0 or c.relkind = 'p') as is_analyzed, \
                sum(pg_catalog.pg_stat_get_dead_tuples(c.oid)) as dead, \
                sum(case when c.relkind = 'p' then 0 else pg_catalog.pg_table_size(c.oid) end) as heap, \
                sum(case when c.relkind = 'p' then 0 else pg_catalog.pg_indexes_size(c.oid) end) as indexes, \
                sum(case when c.relkind = 'p' then 0 else pg_catalog.pg_total_relation_size(c.oid) end) as total \
            from (select relid from pg_catalog.pg_partition_tree(t.oid) union select t.oid::regclass) p \
            join pg_catalog.pg_class c on c.oid = p.relid and (c.relkind <> 'p' or c.oid = t.oid)) z \
        where n.nspname in ('public', 'billsync') and t.relkind in ('r', 'p') and not t.relispartition \
          and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass \
            and d.objid = t.oid and d.deptype = 'e') \
        order by z.total desc, 1, 2";

    DESCRIBE_DATABASE = "\
        select d.datname::text as name, pg_catalog.pg_database_size(d.oid) as bytes, s.stats_reset as statistics_since, \
            current_setting('server_version') as version \
        from pg_catalog.pg_database d left join pg_catalog.pg_stat_database s on s.datid = d.oid \
        where d.datname = pg_catalog.current_database()";

    LIST_ROWLESS_USERS = concat!(
        rowless!("public.user_subscriptions"), " union all ", rowless!("public.user_billing"), " union all ",
        rowless!("public.user_usage"), " union all ", rowless!("public.user_system_data"));

    LIST_ORPHANS = concat!(
        orphans!("public.user_subscriptions", "user_id", "id", "public.users", "id"), " union all ",
        orphans!("public.user_billing", "user_id", "id", "public.users", "id"), " union all ",
        orphans!("public.user_usage", "user_id", "id", "public.users", "id"), " union all ",
        orphans!("public.user_system_data", "user_id", "id", "public.users", "id"), " union all ",
        orphans!("public.campaigns", "user_id", "id", "public.users", "user_id"), " union all ",
        orphans!("public.scraping_jobs", "user_id", "id", "public.users", "user_id"), " union all ",
        orphans!("public.scraping_jobs", "campaign_id", "id", "public.campaigns", "id"), " union all ",
        orphans!("public.scraping_results", "job_id", "id", "public.scraping_jobs", "id"), " union all ",
        orphans!("public.creator_lists", "user_id", "id", "public.users", "id"), " union all ",
        orphans!("public.list_items", "list_id", "id", "public.creator_lists", "id"), " union all ",
        orphans!("billsync.usage_periods", "user_id", "user_id", "public.users", "id"), " union all ",
        orphans!("billsync.consume_keys", "user_id", "user_id", "public.users", "id"));

    /// An event is written together with its payload: one without the other was deleted by hand.
    LIST_STRAY_PAYLOADS = "\
        select 'billsync.webhook_payloads' as relation, 'the event is not in the ledger' as what, \
            count(*) as rows, coalesce((array_agg(p.event_id order by p.received_at desc))[1:$1], '{}') as examples, \
            'delete from billsync.webhook_payloads p where not exists (select from billsync.webhook_events e where e.provider = p.provider \
and e.event_id = p.event_id and e.received_at = p.received_at);   -- replay or resend them first' as fix \
        from billsync.webhook_payloads p where not exists (select from billsync.webhook_events e \
            where e.provider = p.provider and e.event_id = p.event_id and e.received_at = p.received_at)";

    /// Customers and Clerk users of whom something is stored, and whose user has no row.
    LIST_OWNERS_WITHOUT_USERS = "\
        select o.owner_id, o.clerk_user_id, o.linked_by, o.newest_at \
        from billsync.owners o where o.clerk_user_id is not null \
          and not exists (select from public.users u where u.user_id = o.clerk_user_id) \
        order by o.newest_at desc nulls last, o.owner_id limit $1";
    COUNT_OWNERS_WITHOUT_USERS = "\
        select count(*) filter (where o.clerk_user_id is not null \
                and not exists (select from public.users u where u.user_id = o.clerk_user_id)), \
            count(*) filter (where o.clerk_user_id is null and o.linked_by is null and o.has_facts) \
        from billsync.owners o";

    /// Where the extension's view is, in whichever schema it was put.
    FIND_STATEMENT_STATISTICS = "\
        select n.nspname::text from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace \
        where e.extname = 'pg_stat_statements'";
}

/// The database as a whole.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct DatabaseSize {
    pub name: String,
    pub version: String,
    pub bytes: i64,
    /// Since when reads of indexes are counted; `None`: since the database was made, or the server crashed.
    pub statistics_since: Option<DateTime<Utc>>,
}

/// A table with its partitions.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct TableSize {
    #[serde(rename = "schema")]
    pub schema_name: String,
    pub name: String,
    /// Of the migrations; others in `public` are the application's own.
    pub is_ours: bool,
    pub has_row_security: bool,
    pub partitions: i64,
    /// As the server's statistics have it.
    pub rows_estimate: i64,
    pub is_analyzed: bool,
    pub heap_bytes: i64,
    pub index_bytes: i64,
    pub total_bytes: i64,
    pub dead_rows: i64,
    pub is_readable: bool,
    /// Counted; `None` where that would read too much.
    #[sqlx(default)]
    pub rows: Option<i64>,
}

/// Rows that should not be, or are missing.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Stray {
    pub relation: String,
    pub what: String,
    pub rows: i64,
    /// The first ids.
    pub examples: Vec<String>,
    /// What to do about it.
    pub fix: String,
}

#[derive(Debug, FromRow)]
struct StrayRow {
    relation: String,
    what: String,
    rows: i64,
    examples: Vec<String>,
    /// NULL where there is nothing to mend.
    fix: Option<String>,
}

impl StrayRow {
    fn into_stray(self) -> Option<Stray> {
        let StrayRow { relation, what, rows, examples, fix } = self;
        (rows > 0).then(|| Stray { relation, what, rows, examples, fix: fix.unwrap_or_default() })
    }
}

/// Somebody of whom something is stored, and whose user has no row.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct OwnerWithoutUser {
    pub owner_id: String,
    pub clerk_user_id: String,
    pub linked_by: Option<String>,
    pub newest_at: Option<DateTime<Utc>>,
}

/// A statement and what it has cost.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct StatementCost {
    pub calls: i64,
    pub total_ms: f64,
    pub mean_ms: f64,
    pub rows: i64,
    /// With `$1` in the place of values.
    pub query: String,
}

impl Store {
    /// Name, version and size of the database.
    pub async fn describe_database(&self) -> Result<DatabaseSize, StoreError> {
        let found = self.read_planned(DESCRIBE_DATABASE, |query| query).await?.pop();
        found.ok_or_else(|| StoreError::new(ErrorKind::Unavailable, "the database does not know itself"))
    }

    /// Every table, the largest first. Small ones are counted.
    pub async fn list_tables(&self, expected: &ExpectedSchema) -> Result<Vec<TableSize>, StoreError> {
        let names = expected.application_tables();
        let mut tables: Vec<TableSize> = self.read_planned(LIST_TABLES, |query| query.bind(names.clone())).await?;
        for table in tables.iter_mut().filter(|table| table.is_readable && table.heap_bytes <= COUNTED_BYTES) {
            // One that cannot be counted keeps its estimate.
            table.rows = self.count_rows(&table.schema_name, &table.name).await.ok();
        }
        Ok(tables)
    }

    async fn count_rows(&self, schema: &str, name: &str) -> Result<i64, StoreError> {
        let sql = format!("select count(*) from {}.{}", quote(schema), quote(name));
        self.reading(async |tx| {
            let query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
            let (count,): (i64,) = query.fetch_one(tx.connection()?).await?;
            Ok(count)
        })
        .await
    }

    /// Users without one of their rows, by table; tables that nobody lacks are not named.
    pub async fn list_rowless_users(&self) -> Result<Vec<Stray>, StoreError> {
        self.list_strays(LIST_ROWLESS_USERS).await
    }

    /// Rows that refer to a row that is not there; relations without any are not named.
    pub async fn list_orphans(&self) -> Result<Vec<Stray>, StoreError> {
        self.list_strays(LIST_ORPHANS).await
    }

    /// Payloads of events that the ledger does not know.
    pub async fn list_stray_payloads(&self) -> Result<Vec<Stray>, StoreError> {
        self.list_strays(LIST_STRAY_PAYLOADS).await
    }

    async fn list_strays(&self, sql: &'static str) -> Result<Vec<Stray>, StoreError> {
        let found: Vec<StrayRow> =
            self.reading(async |tx| Ok(tx.query_as(sql).bind(EXAMPLES).fetch_all(tx.connection()?).await?)).await?;
        Ok(found.into_iter().filter_map(StrayRow::into_stray).collect())
    }

    /// The newest of them.
    pub async fn list_owners_without_users(&self, limit: i64) -> Result<Vec<OwnerWithoutUser>, StoreError> {
        self.reading(async |tx| Ok(tx.query_as(LIST_OWNERS_WITHOUT_USERS).bind(limit).fetch_all(tx.connection()?).await?)).await
    }

    /// How many belong to a user without a row, and how many customers belong to nobody.
    pub async fn count_owners_without_users(&self) -> Result<(i64, i64), StoreError> {
        self.reading(async |tx| Ok(tx.query_as(COUNT_OWNERS_WITHOUT_USERS).fetch_one(tx.connection()?).await?)).await
    }

    /// The statements that have cost most; `None` when nobody keeps account of them.
    pub async fn list_statement_costs(&self, limit: i64) -> Result<Option<Vec<StatementCost>>, StoreError> {
        let Some((schema,)) = self.read_planned::<(String,)>(FIND_STATEMENT_STATISTICS, |query| query).await?.pop() else {
            return Ok(None);
        };
        // Values stand in the text of other statements: `alter role … password`.
        let view = TableName { schema, name: "pg_stat_statements".into() }.quoted();
        let sql = format!(
            "select sum(calls)::int8 as calls, sum(total_exec_time) as total_ms, \
                sum(total_exec_time) / greatest(sum(calls), 1)::float8 as mean_ms, sum(rows)::int8 as rows, query \
            from {view} s join pg_catalog.pg_database d on d.oid = s.dbid \
            where d.datname = pg_catalog.current_database() and query ~* '^\\s*(select|insert|update|delete|merge|with)\\s' \
            group by query order by total_ms desc limit {limit}"
        );
        let read = self
            .reading(async |tx| Ok(sqlx::query_as(AssertSqlSafe(sql)).persistent(false).fetch_all(tx.connection()?).await?))
            .await;
        read.map(Some).map_err(|error| match error.to_string().contains(NOT_LOADED) {
            true => StoreError::new(
                ErrorKind::Unavailable,
                "pg_stat_statements is installed but not loaded: add it to shared_preload_libraries, and restart the server",
            ),
            false => error,
        })
    }

    async fn reading<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tx = self.begin_with(BEGIN_READING).await?;
        let found = work(&mut tx).await;
        tx.rollback().await;
        found
    }
}
