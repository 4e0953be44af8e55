//! The ledger as the API lists it: by when events came, or of one user by when they happened. Nothing here locks.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use crate::store::error::StoreError;
use crate::store::pool::{RowQuery, Store};
use crate::store::raw_json::RawJson;

macro_rules! entry {
    ($effects:literal, $payloads:literal) => {
        concat!(
            "select e.provider, e.event_id, e.event_type, e.object_id, e.owner_id, e.occurred_at, e.received_at, \
                e.api_version, e.livemode, e.source, e.outcome, e.reason, ",
            $effects,
            " as effects \
            from ",
            $payloads,
            " \
            left join billsync.webhook_payloads p \
              on p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id "
        )
    };
}

statements! {
    /// Newest first. Every filter may be absent.
    LIST_LEDGER = concat!(entry!("p.effects", "( \
        select * from billsync.webhook_events l \
        where ($1::text is null or l.provider = $1) \
          and ($2::text is null or l.outcome = $2) \
          and ($3::text is null or l.event_type = $3) \
          and ($4::text is null or l.source = $4) \
          and ($5::text is null or l.owner_id = $5) \
          and ($6::timestamptz is null or l.received_at >= $6) \
          and ($7::timestamptz is null or l.received_at < $7) \
          and ($8::timestamptz is null or (l.received_at, l.event_id) < ($8, $9)) \
        order by l.received_at desc, l.event_id desc limit $10) e"), "and $11 \
        order by e.received_at desc, e.event_id desc");

    /// Of one owner after the other, so that a page costs the same however many events there are.
    LIST_LEDGER_OF_USER = concat!(entry!("p.effects", "( \
        select l.* from ( \
            select $1 as owner_id union select owner_id from billsync.owners where clerk_user_id = $1 \
        ) o cross join lateral ( \
            select * from billsync.webhook_events w \
            where w.owner_id = o.owner_id and ($2::timestamptz is null or (w.occurred_at, w.event_id) < ($2, $3)) \
            order by w.occurred_at desc, w.event_id desc limit $4 \
        ) l order by l.occurred_at desc, l.event_id desc limit $4) e"), "and $5 \
        order by e.occurred_at desc, e.event_id desc");
}

/// One row of the ledger.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct LedgerEvent {
    /// `stripe`, `clerk` or `import`.
    pub provider: String,
    #[schema(example = "evt_1Nabc")]
    pub event_id: String,
    #[schema(example = "customer.subscription.updated")]
    pub event_type: String,
    pub object_id: Option<String>,
    /// A Stripe customer or a Clerk user.
    pub owner_id: Option<String>,
    /// By the provider's clock.
    pub occurred_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub api_version: Option<String>,
    pub livemode: Option<bool>,
    /// `webhook`, `replay`, `catch_up`, `reconcile` or `job`.
    pub source: String,
    /// `applied`, `unlinked`, `stale`, `ignored` or `failed`.
    pub outcome: String,
    pub reason: Option<String>,
    /// The columns that it changed, old and new; `null` when none, or not asked for, or not kept any more.
    #[schema(value_type = serde_json::Value)]
    pub effects: Option<RawJson>,
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct LedgerFilter {
    pub provider: Option<String>,
    pub outcome: Option<String>,
    pub event_type: Option<String>,
    pub source: Option<String>,
    pub owner_id: Option<String>,
    pub received_from: Option<DateTime<Utc>>,
    pub received_before: Option<DateTime<Utc>>,
    /// (received_at, event id) of the last one seen.
    pub after: Option<(DateTime<Utc>, String)>,
    pub limit: i64,
    pub with_effects: bool,
}

impl Store {
    /// Events that pass the filter, the newest received first.
    pub async fn list_ledger(&self, filter: &LedgerFilter) -> Result<Vec<LedgerEvent>, StoreError> {
        let (after_at, after_id) = filter.after.clone().unzip();
        let bind = |query: RowQuery<LedgerEvent>| {
            query
                .bind(filter.provider.clone())
                .bind(filter.outcome.clone())
                .bind(filter.event_type.clone())
                .bind(filter.source.clone())
                .bind(filter.owner_id.clone())
                .bind(filter.received_from)
                .bind(filter.received_before)
                .bind(after_at)
                .bind(after_id.clone())
                .bind(filter.limit)
                .bind(filter.with_effects)
        };
        self.read_planned(LIST_LEDGER, bind).await
    }

    /// The events of a user and of the customers linked to it, the newest by the provider's clock first. `after` is the
    /// (occurred_at, event id) of the last one seen.
    pub async fn list_ledger_of_user(
        &self,
        clerk_id: &str,
        after: Option<(DateTime<Utc>, String)>,
        limit: i64,
        with_effects: bool,
    ) -> Result<Vec<LedgerEvent>, StoreError> {
        let (after_at, after_id) = after.unzip();
        let bind = |query: RowQuery<LedgerEvent>| {
            query.bind(clerk_id.to_owned()).bind(after_at).bind(after_id.clone()).bind(limit).bind(with_effects)
        };
        self.read_planned(LIST_LEDGER_OF_USER, bind).await
    }
}
