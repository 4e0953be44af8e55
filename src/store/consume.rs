//! The meters: one statement that checks a limit and moves a counter, on one row, under that row's lock. A statement never
//! ends a period itself: it says that one is over, and the reset of `store::usage` ends it first. What is simple goes by the
//! shorter way of [`grants`](super::grants) before.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::store::error::{ErrorKind, StoreError};
use crate::store::grants::Grant;
use crate::store::instants::MaybeAt;
use crate::store::pool::{Store, Tx};
use crate::store::usage::{self, LOCK_DUE_USAGE_OF_ONE, enrichments_limit, on_test_clocks};

/// A meter waits for the row's other writers no longer than a caller would.
pub(super) const BEGIN_CONSUME: &str = "begin isolation level read committed; set local lock_timeout = '3s'; \
    set local statement_timeout = '5s'; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
    set local jit = off";

/// How often a statement may be overtaken by a reset or by a request with the same key.
const ATTEMPTS: usize = 8;

/// The row is locked first and everything follows from the locked row. `keyed` is what makes a key work once: whoever finds
/// it taken by somebody whom the statement does not see yet changes nothing, and asks again.
macro_rules! consume {
    ($counter:literal, $limit:expr, $resets_at:literal) => {
        concat!("\
        with target as ( \
            select u.id, g.", $counter, " as used, ", $limit, " as cap, ", $resets_at, " as resets_at, \
                not g.reset_held and coalesce(g.usage_reset_date <= $4, false) and g.usage_anchor is not null \
                    and g.usage_period_start is not null \
                    and not exists (select from (", on_test_clocks!(), " and o.clerk_user_id = u.user_id) t) as is_due \
            from public.users u join public.user_usage g on g.user_id = u.id \
            where u.user_id = $1 \
            for no key update of g \
        ), known as ( \
            select k.meter, k.amount, k.answer from target t join billsync.consume_keys k \
              on k.user_id = t.id and k.idempotency_key = $3 and k.created_at > $4 - interval '24 hours' \
        ), decision as ( \
            select t.id, t.is_due, t.used, t.cap, t.resets_at, k.meter, k.amount, k.answer, \
                coalesce($2::int4 < 0 or ((t.cap = -1 or t.used::bigint + $2 <= t.cap) and t.used::bigint + $2 <= 2147483647), \
                    false) as allowed \
            from target t left join known k on true \
        ), verdict as ( \
            select d.*, case when d.allowed then greatest(d.used + $2, least(d.used, 0)) else d.used end as used_after \
            from decision d where not d.is_due and d.meter is null \
        ), keyed as ( \
            insert into billsync.consume_keys as k (user_id, idempotency_key, meter, amount, answer, created_at) \
            select v.id, $3, $5, $2, jsonb_build_object('allowed', v.allowed, 'used', v.used_after, 'limit', v.cap, \
                'resets_at', v.resets_at), $4 from verdict v where $3 is not null \
            on conflict (user_id, idempotency_key) do update set meter = excluded.meter, amount = excluded.amount, \
                answer = excluded.answer, created_at = excluded.created_at \
                where k.created_at <= excluded.created_at - interval '24 hours' \
            returning k.user_id \
        ), counted as ( \
            update public.user_usage g set ", $counter, " = v.used_after from verdict v \
            where g.user_id = v.id and v.allowed and ($3 is null or exists (select from keyed)) \
        ) \
        select d.id, d.is_due, d.meter, d.amount, d.answer::text as answer, coalesce(v.allowed, false) as allowed, \
            coalesce(v.used_after, d.used) as used, d.cap, d.resets_at, \
            $3 is null or d.meter is not null or exists (select from keyed) as is_settled \
        from decision d left join verdict v on true")
    };
}

statements! {
    CONSUME_CAMPAIGNS = consume!("usage_campaigns_current", "g.plan_campaigns_limit", "null::timestamptz");
    CONSUME_CREATORS = consume!("usage_creators_current_month", "g.plan_creators_limit", "g.usage_reset_date");
    CONSUME_ENRICHMENTS = consume!("enrichments_current_month", enrichments_limit!(), "g.usage_reset_date");

    FIND_USAGE = concat!("\
        select g.usage_campaigns_current as campaigns, g.usage_creators_current_month as creators, \
            g.enrichments_current_month as enrichments, g.plan_campaigns_limit as campaigns_limit, \
            g.plan_creators_limit as creators_limit, ", enrichments_limit!(), " as enrichments_limit, g.usage_anchor, \
            g.usage_period_start, g.usage_reset_date, g.reset_held, \
            exists (select from (", on_test_clocks!(), " and o.clerk_user_id = u.user_id) t) as has_test_clock \
        from public.users u join public.user_usage g on g.user_id = u.id where u.user_id = $1");
}

/// What is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Meter {
    /// Live campaigns: given back when one ends, never zeroed.
    Campaigns,
    /// Creators found in this period.
    Creators,
    /// Enrichments of this period.
    Enrichments,
}

impl Meter {
    /// Every meter.
    pub const ALL: [Meter; 3] = [Meter::Campaigns, Meter::Creators, Meter::Enrichments];

    /// The name in paths, in tables and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Meter::Campaigns => "campaigns",
            Meter::Creators => "creators",
            Meter::Enrichments => "enrichments",
        }
    }

    /// The inverse of [`Meter::as_str`].
    pub fn parse(text: &str) -> Option<Meter> {
        Meter::ALL.into_iter().find(|meter| meter.as_str() == text)
    }

    fn statement(self) -> &'static str {
        match self {
            Meter::Campaigns => CONSUME_CAMPAIGNS,
            Meter::Creators => CONSUME_CREATORS,
            Meter::Enrichments => CONSUME_ENRICHMENTS,
        }
    }
}

/// A meter's reading after a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reading {
    pub allowed: bool,
    pub used: i32,
    /// -1: unlimited. `None`: nothing is granted.
    pub limit: Option<i32>,
    /// `None` for a counter that no period zeroes.
    pub resets_at: Option<DateTime<Utc>>,
}

/// What became of a request to a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metered {
    Answered(Reading),
    /// The key was used for another meter or amount.
    KeyReused,
    UnknownUser,
}

/// A user's usage row as it is stored.
#[derive(Clone, Debug, FromRow)]
pub struct UsageRow {
    pub campaigns: i32,
    pub creators: i32,
    pub enrichments: i32,
    pub campaigns_limit: Option<i32>,
    pub creators_limit: Option<i32>,
    pub enrichments_limit: Option<i32>,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_anchor: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_period_start: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_reset_date: Option<DateTime<Utc>>,
    pub reset_held: bool,
    /// Whether the user's time is a test clock's, not ours.
    pub has_test_clock: bool,
}

#[derive(Debug, FromRow)]
struct ConsumeRow {
    id: Uuid,
    is_due: bool,
    meter: Option<String>,
    amount: Option<i32>,
    answer: Option<String>,
    allowed: bool,
    used: i32,
    cap: Option<i32>,
    #[sqlx(try_from = "MaybeAt")]
    resets_at: Option<DateTime<Utc>>,
    is_settled: bool,
}

impl Store {
    /// Adds `amount` to a meter if its limit allows that; gives back when it is negative, down to zero. Ends a period that is
    /// over first. A request with a key that was used within 24 hours changes nothing and is answered as the first was.
    pub async fn consume(
        &self,
        clerk_id: &str,
        meter: Meter,
        amount: i32,
        key: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Metered, StoreError> {
        if key.is_none() && amount > 0 {
            let grant = Grant { clerk_id: clerk_id.to_owned(), amount, now };
            if let Some(granted) = self.grant(meter, grant).await {
                return granted.map(Metered::Answered);
            }
        }
        let _turn = match self.gatherings() {
            Some(gatherings) => Some(gatherings.turn(clerk_id).await?),
            None => None,
        };
        for _ in 0..ATTEMPTS {
            let Some(row) = self.try_consume(clerk_id, meter, amount, key, now).await? else {
                return Ok(Metered::UnknownUser);
            };
            if let Some(known) = row.meter {
                let is_same = known == meter.as_str() && row.amount == Some(amount);
                let answer = row.answer.and_then(|text| serde_json::from_str(&text).ok());
                return Ok(answer.filter(|_| is_same).map_or(Metered::KeyReused, Metered::Answered));
            }
            if row.is_due {
                self.reset_usage_of(row.id, now).await?;
            } else if row.is_settled {
                let reading = Reading { allowed: row.allowed, used: row.used, limit: row.cap, resets_at: row.resets_at };
                return Ok(Metered::Answered(reading));
            }
        }
        Err(StoreError::new(ErrorKind::Contended, "the usage row keeps changing"))
    }

    /// The usage row of a user.
    pub async fn find_usage(&self, clerk_id: &str) -> Result<Option<UsageRow>, StoreError> {
        Ok(self.read(FIND_USAGE, |query| query.bind(clerk_id.to_owned())).await?.pop())
    }

    async fn try_consume(
        &self,
        clerk_id: &str,
        meter: Meter,
        amount: i32,
        key: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Option<ConsumeRow>, StoreError> {
        let mut tx = self.begin_single(BEGIN_CONSUME).await?;
        let row = count(&mut tx, clerk_id, meter, amount, key, now).await;
        tx.end(row).await
    }

    /// Runs `work`, which counts by [`consume_within`], in one transaction with it: a period that is over is ended first.
    pub(crate) async fn metered<T>(
        &self,
        now: DateTime<Utc>,
        work: impl AsyncFn(&mut Tx) -> Result<Step<T>, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS {
            let mut tx = self.begin_with(BEGIN_CONSUME).await?;
            match work(&mut tx).await {
                Ok(Step::Done(done)) => {
                    tx.commit().await?;
                    return Ok(done);
                }
                Ok(Step::Refused(refused)) => {
                    tx.rollback().await;
                    return Ok(refused);
                }
                Ok(Step::Due(id)) => {
                    tx.rollback().await;
                    self.reset_usage_of(id, now).await?;
                }
                Err(error) => {
                    tx.roll_back_after(&error).await;
                    return Err(error);
                }
            }
        }
        Err(StoreError::new(ErrorKind::Contended, "the usage row keeps changing"))
    }

    /// As the job does it, but waiting for whoever holds the row.
    async fn reset_usage_of(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin_with(BEGIN_CONSUME).await?;
        let reset = usage::reset(&mut tx, LOCK_DUE_USAGE_OF_ONE, &[id], now).await;
        tx.end(reset).await.map(|_rows| ())
    }
}

/// How far a transaction came that counts something.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// To be committed.
    Done(T),
    /// To be undone; this is the answer.
    Refused(T),
    /// To be undone: the period of this usage row has to be ended first.
    Due(Uuid),
}

/// What a meter said within a transaction.
#[derive(Debug)]
pub(crate) enum Counted {
    Allowed,
    Denied(Reading),
    Due(Uuid),
    UnknownUser,
}

/// Counts within a transaction of the caller's, which decides whether it stands.
pub(crate) async fn consume_within(
    tx: &mut Tx,
    clerk_id: &str,
    meter: Meter,
    amount: i32,
    now: DateTime<Utc>,
) -> Result<Counted, StoreError> {
    Ok(match count(tx, clerk_id, meter, amount, None, now).await? {
        None => Counted::UnknownUser,
        Some(row) if row.is_due => Counted::Due(row.id),
        Some(row) if row.allowed => Counted::Allowed,
        Some(row) => Counted::Denied(Reading { allowed: false, used: row.used, limit: row.cap, resets_at: row.resets_at }),
    })
}

async fn count(
    tx: &mut Tx,
    clerk_id: &str,
    meter: Meter,
    amount: i32,
    key: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<ConsumeRow>, StoreError> {
    let query = tx
        .query_as::<ConsumeRow>(meter.statement())
        .bind(clerk_id.to_owned())
        .bind(amount)
        .bind(key.map(str::to_owned))
        .bind(now)
        .bind(meter.as_str());
    Ok(query.fetch_optional(tx.connection()?).await?)
}
