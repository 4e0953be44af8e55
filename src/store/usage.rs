//! What the clock makes due: users whose rows change by the passing of time, and usage periods that have ended. Users whose
//! customers live by one of Stripe's test clocks are left out of both: their time passes with that clock's events.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::domain::billing::rows::UsageReset;
use crate::domain::billing::usage_period::{Rollover, plan_rollover};
use crate::store::error::StoreError;
use crate::store::instants::{At, Place};
use crate::store::pool::{Store, Tx};

/// As for a batch of events: by index, whatever the statistics say. Whoever holds a row is not waited for. A commit does not
/// wait for the disk while it holds its locks: what a crash undoes is due again, and whatever builds on a reset and does wait
/// takes the reset to the disk with it.
const BEGIN_RESET: &str = "begin isolation level read committed; set local synchronous_commit = off; \
    set local lock_timeout = '200ms'; \
    set local statement_timeout = '5s'; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off; set local jit = off";

/// The Clerk ids of users who live by a test clock that we know.
macro_rules! on_test_clocks {
    () => {
        "select o.clerk_user_id from billsync.owners o \
            join billsync.provider_objects c on c.provider = 'stripe' and c.account = '' and c.object_id = o.test_clock \
            where o.test_clock is not null and o.clerk_user_id is not null"
    };
}

pub(crate) use on_test_clocks;

/// The plan's feature `enrichments_limit`: without one there is no limit, and one that is no number grants nothing.
macro_rules! enrichments_limit {
    () => {
        "case when not g.plan_features ? 'enrichments_limit' then -1 \
            when jsonb_typeof(g.plan_features -> 'enrichments_limit') = 'number' then \
                greatest(least(trunc((g.plan_features -> 'enrichments_limit')::numeric), 2147483647), -2147483648)::int4 end"
    };
}
pub(crate) use enrichments_limit;

/// Adopted, not held, and over at $1.
macro_rules! is_due {
    () => {
        "not g.reset_held and g.usage_reset_date <= $1 and g.usage_anchor is not null and g.usage_period_start is not null"
    };
}

statements! {
    LIST_CLOCK_DUE = concat!("\
        select s.next_change_at, u.user_id from public.user_subscriptions s join public.users u on u.id = s.user_id \
        where s.next_change_at <= $1 and (s.next_change_at, u.user_id) > ($2, $3) \
          and u.user_id <> all(array(", on_test_clocks!(), ")) \
        order by s.next_change_at, u.user_id limit $4");

    LIST_DUE_USAGE = concat!("\
        select g.user_id from public.user_usage g \
        where ", is_due!(), " and ($2::text is null or g.user_id = (select u.id from public.users u where u.user_id = $2)) \
          and g.user_id <> all(array(select t.id from public.users t where t.user_id in (", on_test_clocks!(), "))) \
        limit $3");

    DESCRIBE_DUE_USAGE = concat!("\
        select u.user_id as clerk_id, g.usage_anchor, g.usage_period_start, g.usage_reset_date, \
            g.usage_creators_current_month, g.enrichments_current_month \
        from public.user_usage g join public.users u on u.id = g.user_id \
        where ", is_due!(), " and ($2::text is null or u.user_id = $2) \
          and u.user_id <> all(array(", on_test_clocks!(), ")) \
        order by g.usage_reset_date, u.user_id limit $3");

    COUNT_DUE_USAGE = concat!("\
        select count(*) from public.user_usage g \
        where ", is_due!(), " and ($2::text is null or g.user_id = (select u.id from public.users u where u.user_id = $2)) \
          and g.user_id <> all(array(select t.id from public.users t where t.user_id in (", on_test_clocks!(), ")))");

    /// A statement of its own: the one that resets then sees every plan as it was when the rows were locked or later, since
    /// whoever changes a user's plan locks the usage row too.
    LOCK_DUE_USAGE = concat!("\
        select g.user_id, g.usage_anchor, g.usage_period_start, g.usage_reset_date from public.user_usage g \
        where g.user_id = any($2) and ", is_due!(), " \
        order by g.user_id for no key update skip locked");

    LOCK_DUE_USAGE_OF_ONE = concat!("\
        select g.user_id, g.usage_anchor, g.usage_period_start, g.usage_reset_date from public.user_usage g \
        where g.user_id = any($2) and ", is_due!(), " for no key update");

    /// The period is archived from the row's own counters and zeroed in the same statement, and the limits are copied anew.
    RESET_USAGE = "\
        with x as ( \
            select * from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], \
                $6::timestamptz[], $7::int4[]) \
                as x(id, old_start, old_reset, new_start, new_reset, ended_end, skipped) \
        ), archived as ( \
            insert into billsync.usage_periods (user_id, period_start, period_end, usage_campaigns_current, \
                usage_creators_current_month, enrichments_current_month, periods_skipped) \
            select g.user_id, x.old_start, x.ended_end, g.usage_campaigns_current, g.usage_creators_current_month, \
                g.enrichments_current_month, x.skipped \
            from x join public.user_usage g on g.user_id = x.id \
            where g.usage_period_start = x.old_start and g.usage_reset_date = x.old_reset \
            on conflict (user_id, period_start) do nothing \
        ) \
        update public.user_usage g set usage_period_start = x.new_start, usage_reset_date = x.new_reset, \
            usage_creators_current_month = 0, enrichments_current_month = 0, \
            plan_campaigns_limit = coalesce(p.campaigns_limit, f.campaigns_limit, 0), \
            plan_creators_limit = coalesce(p.creators_limit, f.creators_limit, 0), \
            plan_features = coalesce(p.features, f.features, '{}') \
        from x \
        left join public.user_subscriptions s on s.user_id = x.id \
        left join public.subscription_plans p on p.plan_key = s.current_plan \
        left join public.subscription_plans f on f.plan_key = 'free' \
        where g.user_id = x.id and g.usage_period_start = x.old_start and g.usage_reset_date = x.old_reset";

    LIST_USAGE_PERIODS = "\
        select p.period_start, p.period_end, p.usage_campaigns_current, p.usage_creators_current_month, \
            p.enrichments_current_month, p.periods_skipped \
        from billsync.usage_periods p join public.users u on u.id = p.user_id \
        where u.user_id = $1 order by p.period_start desc limit $2";
}

/// How far a list of due users has been read.
pub type ClockCursor = (DateTime<Utc>, String);

/// A usage row whose period has ended, and the rollover that is due.
#[derive(Clone, Debug)]
pub struct DueUsage {
    pub clerk_id: String,
    pub rollover: Rollover,
    pub creators: i32,
    pub enrichments: i32,
}

/// The counters of a period that has ended.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ArchivedPeriod {
    #[sqlx(try_from = "At")]
    pub period_start: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub period_end: DateTime<Utc>,
    pub usage_campaigns_current: i32,
    pub usage_creators_current_month: i32,
    pub enrichments_current_month: i32,
    /// Whole periods after this one that nothing was archived for.
    pub periods_skipped: i32,
}

#[derive(Debug, FromRow)]
struct DueRow {
    clerk_id: String,
    #[sqlx(try_from = "At")]
    usage_anchor: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    usage_period_start: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    usage_reset_date: DateTime<Utc>,
    usage_creators_current_month: i32,
    enrichments_current_month: i32,
}

#[derive(Debug, FromRow)]
struct LockedRow {
    user_id: Uuid,
    #[sqlx(try_from = "At")]
    usage_anchor: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    usage_period_start: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    usage_reset_date: DateTime<Utc>,
}

impl Store {
    /// The Clerk ids of users whose `next_change_at` has come, each with the cursor to go on from.
    pub async fn list_clock_due(
        &self,
        now: DateTime<Utc>,
        after: &ClockCursor,
        limit: i64,
    ) -> Result<Vec<ClockCursor>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as(LIST_CLOCK_DUE).bind(now).bind(after.0).bind(after.1.clone()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Keys of usage rows whose period has ended, of all users or of one; in no order.
    pub async fn list_due_usage(&self, now: DateTime<Utc>, user: Option<&str>, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(Uuid,)>(LIST_DUE_USAGE).bind(now).bind(user.map(str::to_owned)).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// What a reset would do, the longest due first, and to how many.
    pub async fn describe_due_usage(
        &self,
        now: DateTime<Utc>,
        user: Option<&str>,
        limit: i64,
    ) -> Result<(Vec<DueUsage>, i64), StoreError> {
        let user = user.map(str::to_owned);
        let mut tx = self.begin().await?;
        let query = tx.query_as::<DueRow>(DESCRIBE_DUE_USAGE).bind(now).bind(user.clone()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        let (count,): (i64,) = tx.query_as(COUNT_DUE_USAGE).bind(now).bind(user).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        let due = rows.into_iter().filter_map(|row| {
            let rollover = plan_rollover(row.usage_anchor, row.usage_period_start, row.usage_reset_date, now)?;
            let (creators, enrichments) = (row.usage_creators_current_month, row.enrichments_current_month);
            Some(DueUsage { clerk_id: row.clerk_id, rollover, creators, enrichments })
        });
        Ok((due.collect(), count))
    }

    /// Resets those of the rows that are still due and that nobody else holds, in one transaction; returns how many, and how
    /// long they were locked.
    pub async fn reset_usage(&self, ids: &[Uuid], now: DateTime<Utc>) -> Result<(u64, Duration), StoreError> {
        let mut tx = self.begin_with(BEGIN_RESET).await?;
        let locking = Instant::now();
        let reset = match reset(&mut tx, LOCK_DUE_USAGE, ids, now).await {
            Ok(reset) => reset,
            Err(error) => {
                tx.roll_back_after(&error).await;
                return Err(error);
            }
        };
        tx.commit().await?;
        Ok((reset, locking.elapsed()))
    }

    /// The periods of a user that have ended, newest first.
    pub async fn list_usage_periods(&self, clerk_id: &str, limit: i64) -> Result<Vec<ArchivedPeriod>, StoreError> {
        self.read(LIST_USAGE_PERIODS, |query| query.bind(clerk_id.to_owned()).bind(limit)).await
    }
}

/// Locks the rows that are due with one of the two statements for it, and resets them.
pub(crate) async fn reset(tx: &mut Tx, lock: &'static str, ids: &[Uuid], now: DateTime<Utc>) -> Result<u64, StoreError> {
    let query = tx.query_as::<LockedRow>(lock).bind(now).bind(ids.to_vec());
    let locked = query.fetch_all(tx.connection()?).await?;
    let due: Vec<(LockedRow, Rollover)> = locked
        .into_iter()
        .filter_map(|row| {
            let rollover = plan_rollover(row.usage_anchor, row.usage_period_start, row.usage_reset_date, now)?;
            Some((row, rollover))
        })
        .collect();
    if due.is_empty() {
        return Ok(0);
    }
    let query = tx
        .query(RESET_USAGE)
        .bind(due.iter().map(|(row, _)| row.user_id).collect::<Vec<_>>())
        .bind(due.iter().map(|(row, _)| Place::At(row.usage_period_start)).collect::<Vec<_>>())
        .bind(due.iter().map(|(row, _)| Place::At(row.usage_reset_date)).collect::<Vec<_>>())
        .bind(due.iter().map(|(_, rollover)| rollover.next.start).collect::<Vec<_>>())
        .bind(due.iter().map(|(_, rollover)| rollover.next.end).collect::<Vec<_>>())
        .bind(due.iter().map(|(_, rollover)| rollover.ended.period_end).collect::<Vec<_>>())
        .bind(due.iter().map(|(_, rollover)| skipped(&rollover.ended)).collect::<Vec<_>>());
    Ok(query.execute(tx.connection()?).await?.rows_affected())
}

fn skipped(ended: &UsageReset) -> i32 {
    i32::try_from(ended.periods_skipped).unwrap_or(i32::MAX)
}
