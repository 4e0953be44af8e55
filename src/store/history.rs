//! What the ledger's effects tell of a user's past: which event set each column, and what has changed since a time.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    /// Of the events of some owners ($1), received until $3 (NULL: now): the last one that changed each column of a user ($2).
    LIST_SETTERS = "\
        select distinct on (x.\"table\", x.\"column\") x.\"table\" as table_name, x.\"column\" as column_name, e.event_id, \
            e.event_type, e.occurred_at \
        from billsync.webhook_events e \
        join billsync.webhook_payloads p \
          on p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id \
        cross join lateral jsonb_to_recordset(p.effects) as x(user_id text, \"table\" text, \"column\" text) \
        where e.owner_id = any($1) and ($3::timestamptz is null or e.received_at <= $3) and x.user_id = $2 \
        order by x.\"table\", x.\"column\", e.received_at desc, e.occurred_at desc, e.event_id desc";

    /// What changed of a user ($1) after $2, the latest first. An effect may stand beside an event of any owner, also of one
    /// that has another user by now: every effect since then is looked at.
    LIST_EFFECTS_SINCE = "\
        select p.received_at, x.\"table\" as table_name, x.\"column\" as column_name, x.old::text as old, x.new::text as new \
        from billsync.webhook_payloads p \
        cross join lateral jsonb_to_recordset(p.effects) as x(user_id text, \"table\" text, \"column\" text, old jsonb, new jsonb) \
        where p.received_at > $2 and p.effects @> jsonb_build_array(jsonb_build_object('user_id', $1::text)) and x.user_id = $1 \
        order by p.received_at desc";

    /// Events of some owners ($1) after $2 whose effects are gone with their partition.
    FIND_LOST_EFFECTS = "\
        select count(*), max(e.received_at) from billsync.webhook_events e \
        where e.owner_id = any($1) and e.received_at > $2 and not exists (select from billsync.webhook_payloads p \
            where p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id)";

    FIND_USAGE_PERIOD = "\
        select p.period_start, p.period_end from billsync.usage_periods p join public.users u on u.id = p.user_id \
        where u.user_id = $1 and p.period_start <= $2 and $2 < p.period_end";
}

/// The event that set a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Setter {
    #[serde(skip)]
    pub table_name: String,
    #[serde(skip)]
    pub column_name: String,
    pub event_id: String,
    pub event_type: String,
    pub occurred_at: DateTime<Utc>,
}

/// One column that an event changed.
#[derive(Clone, Debug, PartialEq)]
pub struct PastEffect {
    /// The same for all events of a transaction.
    pub received_at: DateTime<Utc>,
    pub table: String,
    pub column: String,
    pub old: Value,
    pub new: Value,
}

/// Events whose effects retention has dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostEffects {
    pub events: i64,
    pub last_received_at: DateTime<Utc>,
}

type EffectRow = (DateTime<Utc>, String, String, Option<String>, Option<String>);

impl Store {
    /// The last event of these owners, received until then if a time is given, that changed each column of the user.
    pub async fn list_setters(
        &self,
        owner_ids: &[String],
        clerk_id: &str,
        until: Option<DateTime<Utc>>,
    ) -> Result<Vec<Setter>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as(LIST_SETTERS).bind(owner_ids.to_vec()).bind(clerk_id.to_owned()).bind(until);
        let setters = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(setters)
    }

    /// What changed of the user after that time, the latest first. Reads all effects since then: minutes on a large ledger.
    pub async fn list_effects_since(&self, clerk_id: &str, since: DateTime<Utc>) -> Result<Vec<PastEffect>, StoreError> {
        let mut tx = self.begin_with("begin; set local statement_timeout = '600s'").await?;
        let query = tx.query_as::<EffectRow>(LIST_EFFECTS_SINCE).bind(clerk_id.to_owned()).bind(since);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        let value = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let effect = |(received_at, table, column, old, new): EffectRow| PastEffect {
            received_at,
            table,
            column,
            old: value(old),
            new: value(new),
        };
        Ok(rows.into_iter().map(effect).collect())
    }

    /// Whether retention has dropped effects of these owners' events after that time.
    pub async fn find_lost_effects(&self, owner_ids: &[String], since: DateTime<Utc>) -> Result<Option<LostEffects>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(i64, Option<DateTime<Utc>>)>(FIND_LOST_EFFECTS).bind(owner_ids.to_vec()).bind(since);
        let (events, last) = query.fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(last.map(|last_received_at| LostEffects { events, last_received_at }))
    }

    /// The archived usage period that the time lies in: start and end.
    pub async fn find_usage_period(
        &self,
        clerk_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as(FIND_USAGE_PERIOD).bind(clerk_id.to_owned()).bind(at);
        let period = query.fetch_optional(tx.connection()?).await?;
        tx.commit().await?;
        Ok(period)
    }
}
