//! The deprecated `user_profiles` table (or what else is given for it): read row by row in one snapshot, whatever its columns
//! are; and what of it the application owns, written where the application has not written since.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow};

use crate::domain::billing::facts::{Fact, Import};
use crate::domain::user_profile::OwnColumns;
use crate::store::error::StoreError;
use crate::store::pool::{Store, Tx};

/// A snapshot for as long as the import takes.
const BEGIN_READING: &str = "begin isolation level repeatable read read only; set local statement_timeout = 0; \
    set local idle_in_transaction_session_timeout = 0; set local timezone = 'UTC'";

/// A table whose statistics somebody else is making at the moment needs none from here.
const ANALYZE_IMPORTED: &str = "begin; set local statement_timeout = '60s'; set local lock_timeout = '1s'; \
    set local client_min_messages = error; analyze public.users, public.user_subscriptions, public.user_billing, \
    public.user_usage, public.user_system_data, billsync.provider_objects, billsync.owners";

statements! {
    /// By the name as it is given, else as it would stand in quotation marks.
    FIND_PROFILE_TABLE = "\
        select format('%I.%I', n.nspname, c.relname), \
            array(select a.attname::text from pg_catalog.pg_attribute a \
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where c.relkind in ('r', 'p', 'v', 'm', 'f') \
          and $1::text in (c.relname::text, n.nspname || '.' || c.relname, format('%I', c.relname), format('%I.%I', n.nspname, c.relname)) \
          and n.nspname not in ('pg_catalog', 'information_schema', 'billsync') and n.nspname !~ '^pg_' \
        order by n.nspname <> 'public', n.nspname limit 1";

    LOAD_IMPORTS = "\
        select o.object_id, o.fact::text, o.object::text, o.as_of from billsync.provider_objects o \
        where o.provider = 'import' and o.account = '' and o.object_id = any($1)";

    /// Each value only where it is what the import before this one left. `created_at` tells since when the user is known.
    WRITE_OWN_USERS = "\
        update public.users u set \
            business_name = case when u.business_name is not distinct from x.base_business_name \
                then x.business_name else u.business_name end, \
            brand_description = case when u.brand_description is not distinct from x.base_brand_description \
                then x.brand_description else u.brand_description end, \
            industry = case when u.industry is not distinct from x.base_industry then x.industry else u.industry end, \
            onboarding_step = case when u.onboarding_step = coalesce(x.base_onboarding_step, 'pending') \
                then coalesce(x.onboarding_step, 'pending') else u.onboarding_step end, \
            is_admin = case when u.is_admin = x.base_is_admin then x.is_admin else u.is_admin end, \
            created_at = least(u.created_at, x.created_at) \
        from jsonb_to_recordset($1::text::jsonb) as x(user_id text, business_name text, base_business_name text, \
            brand_description text, base_brand_description text, industry text, base_industry text, onboarding_step text, \
            base_onboarding_step text, is_admin bool, base_is_admin bool, created_at timestamptz) \
        where u.user_id = x.user_id";

    /// Counters are only added to: the first import adds what was counted elsewhere, a later one what has come to it, unless
    /// they have moved here.
    WRITE_OWN_USAGE = "\
        update public.user_usage g set \
            usage_campaigns_current = case when x.is_first or g.usage_campaigns_current = x.base_campaigns \
                then least(g.usage_campaigns_current::int8 + x.campaigns - x.base_campaigns, 2147483647) \
                else g.usage_campaigns_current end, \
            usage_creators_current_month = case when x.is_first or g.usage_creators_current_month = x.base_creators \
                then least(g.usage_creators_current_month::int8 + x.creators - x.base_creators, 2147483647) \
                else g.usage_creators_current_month end, \
            enrichments_current_month = case when x.is_first or g.enrichments_current_month = x.base_enrichments \
                then least(g.enrichments_current_month::int8 + x.enrichments - x.base_enrichments, 2147483647) \
                else g.enrichments_current_month end \
        from jsonb_to_recordset($1::text::jsonb) as x(user_id text, is_first bool, campaigns int8, base_campaigns int8, \
            creators int8, base_creators int8, enrichments int8, base_enrichments int8) \
        join public.users u on u.user_id = x.user_id \
        where g.user_id = u.id";

    /// What was sent is marked as sent; entries that are none of ours are put beside.
    WRITE_OWN_SCHEDULE = "\
        update public.user_system_data d set email_schedule_status = d.email_schedule_status || marks.entries \
        from jsonb_to_recordset($1::text::jsonb) as x(user_id text, email_schedule jsonb) \
        join public.users u on u.user_id = x.user_id \
        join public.user_system_data e on e.user_id = u.id and jsonb_typeof(e.email_schedule_status) = 'object' \
        cross join lateral ( \
            select jsonb_object_agg(m.key, case when e.email_schedule_status ? m.key \
                then (e.email_schedule_status -> m.key) || jsonb_build_object('sent_at', m.value -> 'sent_at') else m.value end) \
                as entries \
            from jsonb_each(x.email_schedule) m \
            where not e.email_schedule_status ? m.key \
              or (jsonb_typeof(e.email_schedule_status -> m.key) = 'object' and jsonb_typeof(m.value) = 'object' \
                and coalesce(e.email_schedule_status -> m.key -> 'sent_at', 'null') = 'null') \
        ) marks \
        where d.user_id = u.id and marks.entries is not null";

    /// The five rows of each user, and who else has spoken of them.
    READ_IMPORTED = "\
        select k.id, o.fact::text, o.object::text, \
            case when s.id is not null and b.id is not null and g.id is not null and d.id is not null then \
                (to_jsonb(u) || to_jsonb(s) || to_jsonb(b) || to_jsonb(g) || to_jsonb(d))::text end as columns, \
            exists (select from billsync.provider_objects c \
                where c.provider = 'clerk' and c.account = '' and c.object_id = k.id) as knows_person, \
            exists (select from billsync.owners w where w.clerk_user_id = k.id and w.has_facts) \
              or exists (select from billsync.provider_objects c \
                where c.owner_id = k.id and c.provider = 'clerk' and c.object_type <> 'user') as has_spoken, \
            w.clerk_user_id as customer_of, w.linked_by as customer_by, \
            exists (select from billsync.erasures e \
                where e.id_hash = encode(sha256(convert_to(k.id, 'UTF8')), 'hex')) as is_erased \
        from unnest($1::text[]) as k(id) \
        left join billsync.provider_objects o on o.provider = 'import' and o.account = '' and o.object_id = k.id \
        left join billsync.owners w on w.owner_id = o.fact ->> 'stripe_customer_id' \
        left join public.users u on u.user_id = k.id left join public.user_subscriptions s on s.user_id = u.id \
        left join public.user_billing b on b.user_id = u.id left join public.user_usage g on g.user_id = u.id \
        left join public.user_system_data d on d.user_id = u.id";
}

/// The table that is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileTable {
    /// Qualified and quoted.
    pub name: String,
    pub columns: Vec<String>,
}

/// Reads a table's rows as JSON, ordered by user, in one snapshot; from the start again if need be.
#[derive(Debug)]
pub struct ProfileReader {
    tx: Tx,
    select: String,
}

/// What the import before this one has kept of a user.
#[derive(Clone, Debug)]
pub struct KnownImport {
    pub import: Import,
    /// The rows that it was read from.
    pub object: Value,
    pub as_of: DateTime<Utc>,
}

/// What the application owns of a user, and what the import before has left of it.
#[derive(Clone, Debug, Default)]
pub struct OwnChange {
    pub user_id: String,
    pub new: OwnColumns,
    /// `None`: nothing has been imported before.
    pub base: Option<OwnColumns>,
}

/// A user as the tables have them after an import.
#[derive(Clone, Debug)]
pub struct ImportedRows {
    pub user_id: String,
    pub import: Option<Import>,
    pub object: Value,
    /// The columns of the five rows by name; `None` when one of the rows is missing.
    pub columns: Option<Value>,
    /// Whether Clerk has described the person.
    pub knows_person: bool,
    /// Whether a provider has spoken of the billing, so that the import no longer counts.
    pub has_spoken: bool,
    /// Whose the imported customer is, and why.
    pub customer_of: Option<String>,
    pub customer_by: Option<String>,
    pub is_erased: bool,
}

#[derive(FromRow)]
struct ImportedRow {
    id: String,
    fact: Option<String>,
    object: Option<String>,
    columns: Option<String>,
    knows_person: bool,
    has_spoken: bool,
    customer_of: Option<String>,
    customer_by: Option<String>,
    is_erased: bool,
}

/// A fact that cannot be read counts as none.
fn read_import(fact: &str) -> Option<Import> {
    match serde_json::from_str(fact) {
        Ok(Fact::Import(import)) => Some(*import),
        _ => None,
    }
}

fn read_json(text: Option<String>) -> Value {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

impl Store {
    /// Finds a table (or view) by name; of several of that name the one in `public`.
    pub async fn find_profile_table(&self, name: &str) -> Result<Option<ProfileTable>, StoreError> {
        let rows: Vec<(String, Vec<String>)> = self.read(FIND_PROFILE_TABLE, |query| query.bind(name.to_owned())).await?;
        Ok(rows.into_iter().next().map(|(name, columns)| ProfileTable { name, columns }))
    }

    /// Begins to read a table whose users are told by `user_id`. Also counts its rows.
    pub async fn read_profiles(&self, table: &ProfileTable, user_id: &str) -> Result<(ProfileReader, i64), StoreError> {
        let mut tx = self.begin_with(BEGIN_READING).await?;
        let quoted = format!("\"{}\"", user_id.replace('"', "\"\""));
        let select = format!(
            "select to_json(t)::text from {} t order by btrim(t.{quoted}::text, E' \\t\\r\\n') collate \"C\" nulls first",
            table.name
        );
        let count = format!("select count(*) from {}", table.name);
        let counted = sqlx::query_as(AssertSqlSafe(count)).persistent(false).fetch_one(tx.connection()?).await;
        let (count,): (i64,) = counted?;
        let mut reader = ProfileReader { tx, select };
        reader.declare().await?;
        Ok((reader, count))
    }

    /// The imports that are known of those users.
    pub async fn load_imports(&self, user_ids: &[String]) -> Result<HashMap<String, KnownImport>, StoreError> {
        type Row = (String, Option<String>, Option<String>, Option<DateTime<Utc>>);
        let rows: Vec<Row> = self.read(LOAD_IMPORTS, |query| query.bind(user_ids.to_vec())).await?;
        let known = rows.into_iter().filter_map(|(id, fact, object, as_of)| {
            Some((id, KnownImport { import: read_import(&fact?)?, object: read_json(object), as_of: as_of? }))
        });
        Ok(known.collect())
    }

    /// Has the server count what an import has written, as it would by itself a minute later. Until then it plans for the tables
    /// as they were, empty perhaps, and reads all of a table for each of its rows. Where the role may not, nothing happens.
    pub async fn analyze_imported(&self) -> Result<(), StoreError> {
        self.begin_with(ANALYZE_IMPORTED).await?.commit().await
    }

    /// The rows of those users as they are, one entry a user.
    pub async fn read_imported(&self, user_ids: &[String]) -> Result<Vec<ImportedRows>, StoreError> {
        let rows: Vec<ImportedRow> = self.read(READ_IMPORTED, |query| query.bind(user_ids.to_vec())).await?;
        let read = |row: ImportedRow| ImportedRows {
            user_id: row.id,
            import: row.fact.as_deref().and_then(read_import),
            object: read_json(row.object),
            columns: row.columns.and_then(|text| serde_json::from_str(&text).ok()),
            knows_person: row.knows_person,
            has_spoken: row.has_spoken,
            customer_of: row.customer_of,
            customer_by: row.customer_by,
            is_erased: row.is_erased,
        };
        Ok(rows.into_iter().map(read).collect())
    }
}

impl ProfileReader {
    async fn declare(&mut self) -> Result<(), StoreError> {
        self.tx.execute_raw(format!("declare profiles no scroll cursor for {}", self.select)).await
    }

    /// The next rows as JSON text; none at the end.
    pub async fn next(&mut self, most: usize) -> Result<Vec<String>, StoreError> {
        let sql = format!("fetch forward {most} from profiles");
        let rows = sqlx::query_as::<_, (String,)>(AssertSqlSafe(sql)).persistent(false).fetch_all(self.tx.connection()?).await?;
        Ok(rows.into_iter().map(|(text,)| text).collect())
    }

    /// Starts anew, with the same rows.
    pub async fn rewind(&mut self) -> Result<(), StoreError> {
        self.tx.execute_raw("close profiles".to_owned()).await?;
        self.declare().await
    }

    /// Ends the reading.
    pub async fn close(self) {
        self.tx.rollback().await;
    }
}

/// What a change looks like to the statements.
#[derive(Serialize)]
struct OwnRow<'a> {
    user_id: &'a str,
    is_first: bool,
    business_name: Option<&'a str>,
    base_business_name: Option<&'a str>,
    brand_description: Option<&'a str>,
    base_brand_description: Option<&'a str>,
    industry: Option<&'a str>,
    base_industry: Option<&'a str>,
    onboarding_step: Option<&'a str>,
    base_onboarding_step: Option<&'a str>,
    is_admin: bool,
    base_is_admin: bool,
    created_at: Option<DateTime<Utc>>,
    campaigns: i32,
    base_campaigns: i32,
    creators: i32,
    base_creators: i32,
    enrichments: i32,
    base_enrichments: i32,
    email_schedule: &'a serde_json::Map<String, Value>,
}

/// Writes what the application owns, in the transaction that has written the facts and made the rows.
pub async fn write_own_columns(tx: &mut Tx, changes: &[OwnChange]) -> Result<(), StoreError> {
    let nothing = OwnColumns::default();
    let rows = changes.iter().map(|OwnChange { user_id, new, base }| {
        let (is_first, base) = (base.is_none(), base.as_ref().unwrap_or(&nothing));
        OwnRow {
            user_id,
            is_first,
            business_name: new.business_name.as_deref(),
            base_business_name: base.business_name.as_deref(),
            brand_description: new.brand_description.as_deref(),
            base_brand_description: base.brand_description.as_deref(),
            industry: new.industry.as_deref(),
            base_industry: base.industry.as_deref(),
            onboarding_step: new.onboarding_step.as_deref(),
            base_onboarding_step: base.onboarding_step.as_deref(),
            is_admin: new.is_admin,
            base_is_admin: base.is_admin,
            created_at: new.created_at,
            campaigns: new.usage_campaigns_current,
            base_campaigns: base.usage_campaigns_current,
            creators: new.usage_creators_current_month,
            base_creators: base.usage_creators_current_month,
            enrichments: new.enrichments_current_month,
            base_enrichments: base.enrichments_current_month,
            email_schedule: &new.email_schedule,
        }
    });
    let rows: Vec<OwnRow<'_>> = rows.collect();
    let text = serde_json::to_string(&rows).unwrap_or_else(|_unserialisable| "[]".to_owned());
    tx.query(WRITE_OWN_USERS).bind(text.as_str()).execute(tx.connection()?).await?;
    tx.query(WRITE_OWN_USAGE).bind(text.as_str()).execute(tx.connection()?).await?;
    if changes.iter().any(|change| !change.new.email_schedule.is_empty()) {
        tx.query(WRITE_OWN_SCHEDULE).bind(text.as_str()).execute(tx.connection()?).await?;
    }
    Ok(())
}
