//! What `doctor` asks the database about itself: the server, the role's rights, who may read what, what waits. Nothing here
//! locks or writes, and nothing needs the schema to be there unless it says so.

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow};

use crate::domain::billing::facts::{Fact, Subscription};
use crate::domain::event::Provider;
use crate::store::error::StoreError;
use crate::store::expected_schema::ExpectedSchema;
use crate::store::pool::Store;

/// Subscriptions are read in pages of so many.
const PAGE: i64 = 5000;
/// A table that is large may be read for longer than webhooks wait.
const BEGIN_READING: &str = "begin read only; set local statement_timeout = '60s'; set local lock_timeout = '2s'";

statements! {
    /// Clocks and settings as the session sees them; connections of everybody, of the role, to the database, each with its
    /// limit (-1: none).
    DESCRIBE_SERVER = "\
        select current_setting('server_version') as version, clock_timestamp() as clock, format('%I', current_user) as role, \
            format('%I', pg_catalog.current_database()) as database, current_setting('server_encoding') as encoding, \
            current_setting('synchronous_commit') as synchronous_commit, \
            current_setting('transaction_read_only') = 'on' or pg_catalog.pg_is_in_recovery() as read_only, \
            current_setting('idle_in_transaction_session_timeout') as idle_timeout, \
            pg_catalog.pg_postmaster_start_time() as started_at, \
            current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4 \
                - coalesce(current_setting('reserved_connections', true)::int4, 0) as server_limit, \
            (select rolconnlimit from pg_catalog.pg_roles where rolname = current_user) as role_limit, \
            (select datconnlimit from pg_catalog.pg_database where datname = pg_catalog.current_database()) as database_limit, \
            s.server_connections, s.role_connections, s.database_connections \
        from (select count(*) as server_connections, count(*) filter (where a.usename = current_user) as role_connections, \
                count(*) filter (where a.datname = pg_catalog.current_database()) as database_connections \
            from pg_catalog.pg_stat_activity a where a.usesysid is not null) s";

    WHERE_AM_I = "select pg_catalog.current_database()::text, pg_catalog.pg_postmaster_start_time()";

    /// What our role lacks: on our schemas, tables and functions, and the ownership of the payloads, whose partitions it makes.
    /// $1: our tables in `public`.
    LIST_PRIVILEGE_GAPS = "\
        select 'schema' as kind, n.nspname::text as object, array['usage'] as privileges \
        from pg_catalog.pg_namespace n \
        where n.nspname in ('public', 'billsync') and not pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
        union all \
        select 'schema', 'public', array['create'] \
        where pg_catalog.to_regclass('public.users') is null and not pg_catalog.has_schema_privilege('public', 'CREATE') \
        union all \
        select 'database', format('%I', pg_catalog.current_database()), array['create'] \
        where not exists (select from pg_catalog.pg_namespace where nspname = 'billsync') \
          and not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') \
        union all \
        select 'table', format('%I.%I', n.nspname, c.relname), array(select lower(p) \
                from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p where not pg_catalog.has_table_privilege(c.oid, p)) \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where c.relkind in ('r', 'p') and not c.relispartition \
          and (n.nspname = 'billsync' or n.nspname = 'public' and c.relname = any($1)) \
          and not (pg_catalog.has_table_privilege(c.oid, 'SELECT') and pg_catalog.has_table_privilege(c.oid, 'INSERT') \
            and pg_catalog.has_table_privilege(c.oid, 'UPDATE') and pg_catalog.has_table_privilege(c.oid, 'DELETE')) \
        union all \
        select 'function', f.oid::regprocedure::text, array['execute'] \
        from pg_catalog.pg_proc f join pg_catalog.pg_namespace n on n.oid = f.pronamespace \
        where n.nspname = 'billsync' and f.prorettype <> 'trigger'::regtype \
          and not pg_catalog.has_function_privilege(f.oid, 'EXECUTE') \
        union all \
        select 'owner', format('%I.%I', n.nspname, c.relname), array['own'] \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'billsync' and c.relname = 'webhook_payloads' \
          and not pg_catalog.pg_has_role(c.relowner, 'USAGE') \
        order by 1, 2";

    /// Tables without row-level security, partitions too; not those of extensions.
    LIST_UNPROTECTED_TABLES = "\
        select format('%I.%I', n.nspname, c.relname) as name, \
            n.nspname = 'billsync' or c.relname = any($1) as is_ours, \
            array(select r.rolname::text from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated') \
                and pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE') \
                and pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE') order by 1) as open_to \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where c.relkind in ('r', 'p') and n.nspname in ('public', 'billsync') and not c.relrowsecurity \
          and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass \
            and d.objid = c.oid and d.deptype = 'e') \
        order by 1";

    /// What Supabase's roles may do with our tables and views beyond reading their own rows by a policy.
    LIST_EXPOSED_TABLES = "\
        select format('%I.%I', n.nspname, c.relname) as name, r.rolname::text as role, p.privileges \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        cross join pg_catalog.pg_roles r \
        cross join lateral (select array(select lower(p) \
            from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p \
            where pg_catalog.has_table_privilege(r.oid, c.oid, p) \
              and not (p = 'SELECT' and r.rolname = 'authenticated' and c.relrowsecurity \
                and exists (select from pg_catalog.pg_policy y where y.polrelid = c.oid))) as privileges) p \
        where c.relkind in ('r', 'p', 'v') and r.rolname in ('anon', 'authenticated') \
          and (n.nspname = 'billsync' or n.nspname = 'public' and c.relname = any($1)) \
          and p.privileges <> '{}' \
        order by 1, 2";

    /// When the newest webhook came whose signature was right, by provider.
    LIST_NEWEST_WEBHOOKS = "\
        select p.provider, w.received_at from unnest(array['clerk', 'stripe']) as p(provider) \
        cross join lateral (select e.received_at from billsync.webhook_events e \
            where e.provider = p.provider and e.source = 'webhook' order by e.received_at desc limit 1) w";

    /// Late are those that were due before $1.
    COUNT_BACKLOG = "\
        select (select count(*) from billsync.webhook_events where outcome = 'failed') as failed, \
            (select e.event_id from billsync.webhook_events e where e.outcome = 'failed' \
                order by e.received_at desc limit 1) as newest_failed, \
            (select count(*) from billsync.refetch_queue) as refetches, \
            (select count(*) from billsync.refetch_queue where after < $1) as late_refetches";

    /// Of live subscriptions: neither ended nor of a customer who was deleted.
    LIST_LIVE_SUBSCRIPTIONS = "\
        select s.object_id, s.fact::text from billsync.provider_objects s \
        where s.provider = 'stripe' and s.account = '' and s.object_id > $1 and s.object_type = 'subscription' \
          and s.fact is not null and not coalesce(s.terminal, false) \
          and not exists (select from billsync.provider_objects c where c.provider = 'stripe' and c.account = '' \
            and c.object_id = s.owner_id and c.deleted_at is not null) \
        order by s.object_id limit $2";

    HAS_PARTITION_OF = "\
        select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
            where n.nspname = 'billsync' \
              and c.relname = 'webhook_payloads_' || to_char($1::timestamptz at time zone 'utc', 'YYYY_MM'))";
}

/// What the server says about itself.
#[derive(Clone, Debug, FromRow)]
pub struct ServerDescription {
    pub version: String,
    /// The database's clock.
    pub clock: DateTime<Utc>,
    /// As it stands in a statement.
    pub role: String,
    /// As it stands in a statement.
    pub database: String,
    pub encoding: String,
    pub synchronous_commit: String,
    pub read_only: bool,
    /// As this session has it, which asked for another value than the server's default when it connected.
    pub idle_timeout: String,
    pub started_at: DateTime<Utc>,
    pub server_limit: i32,
    /// -1: none.
    pub role_limit: i32,
    /// -1: none.
    pub database_limit: i32,
    pub server_connections: i64,
    pub role_connections: i64,
    pub database_connections: i64,
}

/// Something that our role lacks.
#[derive(Clone, Debug, FromRow)]
pub struct PrivilegeGap {
    /// `database`, `schema`, `table`, `function`, or `owner` for a table that has to be the role's own.
    pub kind: String,
    pub object: String,
    pub privileges: Vec<String>,
}

/// A table without row-level security.
#[derive(Clone, Debug, FromRow)]
pub struct UnprotectedTable {
    pub name: String,
    pub is_ours: bool,
    /// Which of Supabase's roles get at its rows.
    pub open_to: Vec<String>,
}

/// A table or view of ours that one of Supabase's roles may do more with than it should.
#[derive(Clone, Debug, FromRow)]
pub struct ExposedTable {
    pub name: String,
    pub role: String,
    pub privileges: Vec<String>,
}

/// What waits for somebody.
#[derive(Clone, Debug, FromRow)]
pub struct Backlog {
    pub failed: i64,
    pub newest_failed: Option<String>,
    pub refetches: i64,
    /// Due before the time that was asked for.
    pub late_refetches: i64,
}

/// A subscription that has not ended.
#[derive(Clone, Debug)]
pub struct LiveSubscription {
    pub id: String,
    pub fact: Subscription,
}

impl Store {
    /// Version, clock, role, connections.
    pub async fn describe_server(&self) -> Result<ServerDescription, StoreError> {
        let mut tx = self.begin().await?;
        let described = tx.query_as(DESCRIBE_SERVER).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(described)
    }

    /// Whether migrations, which have a connection of their own behind a pooler, reach the same database.
    pub async fn migrations_reach_same_database(&self) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let here: (String, DateTime<Utc>) = tx.query_as(WHERE_AM_I).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        let mut direct = self.connect_directly().await?;
        let there: (String, DateTime<Utc>) = sqlx::query_as(WHERE_AM_I).fetch_one(&mut direct).await?;
        let _ = direct.close().await;
        Ok(here == there)
    }

    /// What our role lacks to do its work.
    pub async fn list_privilege_gaps(&self, expected: &ExpectedSchema) -> Result<Vec<PrivilegeGap>, StoreError> {
        let tables = expected.application_tables();
        self.read_planned(LIST_PRIVILEGE_GAPS, |query| query.bind(tables.clone())).await
    }

    /// Every table of `public` and `billsync` without row-level security.
    pub async fn list_unprotected_tables(&self, expected: &ExpectedSchema) -> Result<Vec<UnprotectedTable>, StoreError> {
        let tables = expected.application_tables();
        self.read_planned(LIST_UNPROTECTED_TABLES, |query| query.bind(tables.clone())).await
    }

    /// What `anon` and `authenticated` may do with our tables beyond what is meant.
    pub async fn list_exposed_tables(&self, expected: &ExpectedSchema) -> Result<Vec<ExposedTable>, StoreError> {
        let tables = expected.application_tables();
        self.read_planned(LIST_EXPOSED_TABLES, |query| query.bind(tables.clone())).await
    }

    /// When the newest webhook of each provider came; nothing for one that never came. Needs the ledger.
    pub async fn list_newest_webhooks(&self) -> Result<Vec<(Provider, DateTime<Utc>)>, StoreError> {
        let mut tx = self.begin_with(BEGIN_READING).await?;
        let rows: Vec<(String, DateTime<Utc>)> = tx.query_as(LIST_NEWEST_WEBHOOKS).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().filter_map(|(provider, at)| Some((Provider::parse(&provider)?, at))).collect())
    }

    /// Failed events and open questions; late are those that were due before `late_before`. Needs the schema.
    pub async fn count_backlog(&self, late_before: DateTime<Utc>) -> Result<Backlog, StoreError> {
        let mut tx = self.begin_with(BEGIN_READING).await?;
        let backlog = tx.query_as(COUNT_BACKLOG).bind(late_before).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(backlog)
    }

    /// A page of subscriptions that have not ended, by id after the given one. Needs the schema.
    pub async fn list_live_subscriptions(&self, after: &str) -> Result<Vec<LiveSubscription>, StoreError> {
        let mut tx = self.begin_with(BEGIN_READING).await?;
        let query = tx.query_as::<(String, String)>(LIST_LIVE_SUBSCRIPTIONS).bind(after.to_owned()).bind(PAGE);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        let read = |(id, fact): (String, String)| match serde_json::from_str(&fact) {
            Ok(Fact::Subscription(fact)) => Some(LiveSubscription { id, fact }),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Whether the payloads of that month have their partition. Needs the schema.
    pub async fn has_payload_partition(&self, month: DateTime<Utc>) -> Result<bool, StoreError> {
        let found: Option<(bool,)> = self.read_planned(HAS_PARTITION_OF, |query| query.bind(month)).await?.pop();
        Ok(found.is_some_and(|(exists,)| exists))
    }
}
