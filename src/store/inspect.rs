//! What the commands and the API read: profiles, the facts behind them, the timeline, counts. Nothing here locks.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;
use utoipa::ToSchema;

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    FIND_PROFILE = "\
        select u.user_id, to_jsonb(u)::text, to_jsonb(s)::text, to_jsonb(b)::text, to_jsonb(g)::text, to_jsonb(d)::text \
        from public.users u \
        left join public.user_subscriptions s on s.user_id = u.id \
        left join public.user_billing b on b.user_id = u.id \
        left join public.user_usage g on g.user_id = u.id \
        left join public.user_system_data d on d.user_id = u.id \
        where u.user_id = $1";

    FIND_USERS_BY_EMAIL = "select user_id from public.users where lower(email) = lower($1) order by created_at desc, user_id";

    FIND_USERS_BY_CUSTOMER = "\
        select clerk_user_id from billsync.owners where owner_id = $1 and clerk_user_id is not null \
        union select u.user_id from public.user_billing b join public.users u on u.id = b.user_id \
        where b.stripe_customer_id = $1";

    LIST_OWNER_IDS = "select owner_id, linked_by from billsync.owners where clerk_user_id = $1 order by owner_id";

    LIST_FACTS = "\
        select provider, object_type, object_id, owner_id, as_of, deleted_at, event_id, ambiguous, fact::text as fact \
        from billsync.provider_objects where owner_id = any($1) and account = '' \
        order by provider, object_type, as_of desc nulls last, object_id limit $2";

    /// Newest first by the provider's clock.
    LIST_TIMELINE = "\
        select e.provider, e.event_id, e.event_type, e.object_id, e.owner_id, e.occurred_at, e.received_at, e.source, \
            e.outcome, e.reason, p.effects::text as effects \
        from billsync.webhook_events e \
        left join billsync.webhook_payloads p \
          on p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id \
        where e.owner_id = any($1) order by e.occurred_at desc, e.event_id desc limit $2";

    /// What a provider has sent, in the order in which it came, with its payload.
    LIST_REPLAYABLE = "\
        select e.provider, e.event_id, e.event_type, e.object_id, e.owner_id, e.occurred_at, e.received_at, e.source, \
            e.outcome, e.reason, null::text as effects, e.api_version, e.livemode, p.payload::text as payload, p.payload_raw \
        from billsync.webhook_events e \
        left join billsync.webhook_payloads p \
          on p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id \
        where e.provider <> 'import' and e.source not in ('job', 'reconcile') \
          and ($1::text is null or e.outcome = $1) and ($2::text[] is null or e.event_id = any($2)) \
          and ($3::text[] is null or e.event_type = any($3)) and ($4::text[] is null or e.owner_id = any($4)) \
          and ($5::timestamptz is null or e.received_at >= $5) \
          and ($6::timestamptz is null or (e.received_at, e.event_id) > ($6, $7)) \
        order by e.received_at, e.event_id limit $8";
    COUNT_REPLAYABLE = "\
        select count(*) from billsync.webhook_events e \
        where e.provider <> 'import' and e.source not in ('job', 'reconcile') \
          and ($1::text is null or e.outcome = $1) and ($2::text[] is null or e.event_id = any($2)) \
          and ($3::text[] is null or e.event_type = any($3)) and ($4::text[] is null or e.owner_id = any($4)) \
          and ($5::timestamptz is null or e.received_at >= $5)";

    /// By the key, whichever provider it is of.
    FIND_EVENT = "\
        select e.provider, e.event_id, e.event_type, e.object_id, e.owner_id, e.occurred_at, e.received_at, e.source, \
            e.outcome, e.reason, p.effects::text as effects, e.api_version, e.livemode, p.payload::text as payload, \
            p.payload_raw \
        from billsync.webhook_events e \
        left join billsync.webhook_payloads p \
          on p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id \
        where e.provider in ('stripe', 'clerk', 'import') and e.event_id = $1 order by e.provider";

    COUNT_EVENTS = "\
        select provider, event_type, outcome, count(*), max(occurred_at) from billsync.webhook_events \
        group by provider, event_type, outcome order by provider, event_type, outcome";
}

/// How a user is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    ClerkId(String),
    /// Any case.
    Email(String),
    Customer(String),
}

impl UserKey {
    /// An address when it has an @, a Stripe customer by how its id begins, else a Clerk user id.
    pub fn of(who: &str) -> UserKey {
        let id = who.to_owned();
        if who.contains('@') {
            UserKey::Email(id)
        } else if who.starts_with("cus_") || who.starts_with("acct_") {
            UserKey::Customer(id)
        } else {
            UserKey::ClerkId(id)
        }
    }
}

/// The five rows, by the names of their tables and columns. `None` for a row that is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    pub user_id: String,
    pub users: Value,
    pub user_subscriptions: Option<Value>,
    pub user_billing: Option<Value>,
    pub user_usage: Option<Value>,
    pub user_system_data: Option<Value>,
}

/// One object as the projection reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredFact {
    pub provider: String,
    pub object_type: String,
    pub object_id: String,
    pub owner_id: Option<String>,
    pub as_of: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// The event that it comes from.
    pub event_id: Option<String>,
    pub ambiguous: bool,
    pub fact: Option<Value>,
}

/// An event in the ledger, with the columns that it changed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TimelineEntry {
    pub provider: String,
    pub event_id: String,
    pub event_type: String,
    pub object_id: Option<String>,
    pub owner_id: Option<String>,
    pub occurred_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub source: String,
    pub outcome: String,
    pub reason: Option<String>,
    /// The columns that it changed, old and new.
    #[schema(value_type = Value)]
    pub effects: Option<Value>,
}

/// An event with its payload.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EventDetail {
    #[serde(flatten)]
    pub entry: TimelineEntry,
    pub api_version: Option<String>,
    pub livemode: Option<bool>,
    /// JSON text, redacted when it came in; `None` when its partition was dropped.
    #[serde(skip)]
    pub payload: Option<String>,
}

/// Which events of the ledger to replay. What is `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct ReplayFilter {
    pub outcome: Option<String>,
    pub event_ids: Option<Vec<String>>,
    pub event_types: Option<Vec<String>>,
    pub owner_ids: Option<Vec<String>>,
    pub received_from: Option<DateTime<Utc>>,
}

/// How many events of a type ended in an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerCount {
    pub provider: String,
    pub event_type: String,
    pub outcome: String,
    pub events: i64,
    pub newest_occurred_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct FactRow {
    provider: String,
    object_type: String,
    object_id: String,
    owner_id: Option<String>,
    as_of: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
    event_id: Option<String>,
    ambiguous: bool,
    fact: Option<String>,
}

#[derive(FromRow)]
struct EntryRow {
    provider: String,
    event_id: String,
    event_type: String,
    object_id: Option<String>,
    owner_id: Option<String>,
    occurred_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    source: String,
    outcome: String,
    reason: Option<String>,
    effects: Option<String>,
}

#[derive(FromRow)]
struct DetailRow {
    #[sqlx(flatten)]
    entry: EntryRow,
    api_version: Option<String>,
    livemode: Option<bool>,
    payload: Option<String>,
    payload_raw: Option<Vec<u8>>,
}

impl From<DetailRow> for EventDetail {
    fn from(row: DetailRow) -> EventDetail {
        EventDetail {
            entry: row.entry.into(),
            api_version: row.api_version,
            livemode: row.livemode,
            payload: row.payload.or_else(|| String::from_utf8(row.payload_raw?).ok()),
        }
    }
}

impl From<EntryRow> for TimelineEntry {
    fn from(row: EntryRow) -> TimelineEntry {
        TimelineEntry {
            provider: row.provider,
            event_id: row.event_id,
            event_type: row.event_type,
            object_id: row.object_id,
            owner_id: row.owner_id,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            source: row.source,
            outcome: row.outcome,
            reason: row.reason,
            effects: row.effects.as_deref().and_then(read_value),
        }
    }
}

fn read_value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

type ProfileRow = (String, String, Option<String>, Option<String>, Option<String>, Option<String>);

impl Store {
    /// The Clerk ids that a key stands for: several when an address was used again.
    pub async fn find_users(&self, key: &UserKey) -> Result<Vec<String>, StoreError> {
        let (sql, text) = match key {
            UserKey::ClerkId(clerk_id) => return Ok(vec![clerk_id.clone()]),
            UserKey::Email(email) => (FIND_USERS_BY_EMAIL, email),
            UserKey::Customer(customer) => (FIND_USERS_BY_CUSTOMER, customer),
        };
        let mut tx = self.begin().await?;
        let rows: Vec<(String,)> = tx.query_as(sql).bind(text.clone()).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// A user's five rows.
    pub async fn find_profile(&self, clerk_id: &str) -> Result<Option<Profile>, StoreError> {
        let mut tx = self.begin().await?;
        let row: Option<ProfileRow> =
            tx.query_as(FIND_PROFILE).bind(clerk_id.to_owned()).fetch_optional(tx.connection()?).await?;
        tx.commit().await?;
        let value = |text: Option<String>| text.as_deref().and_then(read_value);
        Ok(row.map(|(user_id, users, subscriptions, billing, usage, system)| Profile {
            user_id,
            users: read_value(&users).unwrap_or_default(),
            user_subscriptions: value(subscriptions),
            user_billing: value(billing),
            user_usage: value(usage),
            user_system_data: value(system),
        }))
    }

    /// The user's own id and those of the customers linked to it, each with what linked it.
    pub async fn list_owner_ids(&self, clerk_id: &str) -> Result<Vec<(String, Option<String>)>, StoreError> {
        let mut tx = self.begin().await?;
        let mut rows: Vec<(String, Option<String>)> =
            tx.query_as(LIST_OWNER_IDS).bind(clerk_id.to_owned()).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        rows.insert(0, (clerk_id.to_owned(), None));
        Ok(rows)
    }

    /// The facts of those owners, by type, newest first.
    pub async fn list_facts(&self, owner_ids: &[String], limit: i64) -> Result<Vec<StoredFact>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<FactRow>(LIST_FACTS).bind(owner_ids.to_vec()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        let fact = |row: FactRow| StoredFact {
            provider: row.provider,
            object_type: row.object_type,
            object_id: row.object_id,
            owner_id: row.owner_id,
            as_of: row.as_of,
            deleted_at: row.deleted_at,
            event_id: row.event_id,
            ambiguous: row.ambiguous,
            fact: row.fact.as_deref().and_then(read_value),
        };
        Ok(rows.into_iter().map(fact).collect())
    }

    /// The events of those owners, newest first, with what each changed.
    pub async fn list_timeline(&self, owner_ids: &[String], limit: i64) -> Result<Vec<TimelineEntry>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<EntryRow>(LIST_TIMELINE).bind(owner_ids.to_vec()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(TimelineEntry::from).collect())
    }

    /// What providers have sent that passes the filter, the oldest received first, with payloads. `after` is the
    /// (received_at, event id) of the last one seen.
    pub async fn list_replayable(
        &self,
        filter: &ReplayFilter,
        after: Option<(DateTime<Utc>, String)>,
        limit: i64,
    ) -> Result<Vec<EventDetail>, StoreError> {
        let (after_at, after_id) = after.unzip();
        let mut tx = self.begin().await?;
        let query = tx
            .query_as::<DetailRow>(LIST_REPLAYABLE)
            .bind(filter.outcome.clone())
            .bind(filter.event_ids.clone())
            .bind(filter.event_types.clone())
            .bind(filter.owner_ids.clone())
            .bind(filter.received_from)
            .bind(after_at)
            .bind(after_id)
            .bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(EventDetail::from).collect())
    }

    /// How many events [`Store::list_replayable`] has in all.
    pub async fn count_replayable(&self, filter: &ReplayFilter) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx
            .query_as::<(i64,)>(COUNT_REPLAYABLE)
            .bind(filter.outcome.clone())
            .bind(filter.event_ids.clone())
            .bind(filter.event_types.clone())
            .bind(filter.owner_ids.clone())
            .bind(filter.received_from);
        let (count,) = query.fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// An event with its payload and effects; both providers could use one id.
    pub async fn find_event(&self, event_id: &str) -> Result<Vec<EventDetail>, StoreError> {
        let rows: Vec<DetailRow> = self.read(FIND_EVENT, |query| query.bind(event_id.to_owned())).await?;
        Ok(rows.into_iter().map(EventDetail::from).collect())
    }

    /// How many events of each type ended how.
    pub async fn count_events(&self) -> Result<Vec<LedgerCount>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String, String, String, i64, Option<DateTime<Utc>>)>(COUNT_EVENTS);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        let count = |(provider, event_type, outcome, events, newest_occurred_at)| LedgerCount {
            provider,
            event_type,
            outcome,
            events,
            newest_occurred_at,
        };
        Ok(rows.into_iter().map(count).collect())
    }
}
