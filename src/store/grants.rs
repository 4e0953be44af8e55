//! What most requests to a meter are: an amount without a key, within the limit, in a period that goes on. Those that come at
//! the same moment share a statement, which counts what it can count for certain and leaves everything else to
//! [`consume`](super::consume): a row that somebody else holds, one whose period is over, a limit that is reached.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Execute, FromRow};

use crate::store::consume::{BEGIN_CONSUME, Meter, Reading};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::gathering::Abandoned;
use crate::store::instants::MaybeAt;
use crate::store::plan_log::{Plan, PlanLog};
use crate::store::pool::{RowQuery, Store, Tx};
use crate::store::usage::enrichments_limit;

/// Of each user ($1) the total ($2) as of the time ($3), all of it or nothing. The conditions are those of the locked row, and
/// nobody is waited for: rows are locked in no order.
macro_rules! grant {
    ($counter:literal, $limit:expr, $resets_at:literal) => {
        concat!(
            "\
        with fitting as materialized ( \
            select x.clerk_id, x.total::int4 as total, g.user_id as id \
            from unnest($1::text[], $2::int8[], $3::timestamptz[]) as x(clerk_id, total, at) \
            join public.users u on u.user_id = x.clerk_id \
            join public.user_usage g on g.user_id = u.id \
            where (g.reset_held or g.usage_reset_date > x.at or g.usage_anchor is null or g.usage_period_start is null) \
              and (",
            $limit,
            " = -1 or g.",
            $counter,
            " + x.total <= ",
            $limit,
            ") and g.",
            $counter,
            " + x.total <= 2147483647 \
            for no key update of g skip locked \
        ) \
        update public.user_usage g set ",
            $counter,
            " = g.",
            $counter,
            " + f.total \
        from fitting f where g.user_id = f.id \
        returning f.clerk_id, g.",
            $counter,
            " as used, ",
            $limit,
            " as cap, ",
            $resets_at,
            " as resets_at"
        )
    };
}

statements! {
    GRANT_CAMPAIGNS = grant!("usage_campaigns_current", "g.plan_campaigns_limit", "null::timestamptz");
    GRANT_CREATORS = grant!("usage_creators_current_month", "g.plan_creators_limit", "g.usage_reset_date");
    GRANT_ENRICHMENTS = grant!("enrichments_current_month", enrichments_limit!(), "g.usage_reset_date");
}

/// A request that may be granted with others.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub clerk_id: String,
    /// More than zero.
    pub amount: i32,
    pub now: DateTime<Utc>,
}

#[derive(Debug, FromRow)]
struct GrantedRow {
    clerk_id: String,
    used: i32,
    cap: Option<i32>,
    #[sqlx(try_from = "MaybeAt")]
    resets_at: Option<DateTime<Utc>>,
}

/// What the requests of one user come to.
#[derive(Debug, Default)]
struct Share {
    total: i64,
    /// The latest.
    now: DateTime<Utc>,
}

impl Store {
    /// Counts a request together with those of others. `None` when that cannot be done so; nothing is counted then.
    pub(crate) async fn grant(&self, meter: Meter, grant: Grant) -> Option<Result<Reading, StoreError>> {
        let (store, clerk_id) = (self.clone(), grant.clerk_id.clone());
        let work = move |grants: Vec<Grant>| {
            let store = store.clone();
            async move { store.grant_all(meter, &grants).await }
        };
        match self.gatherings()?.grants(meter, &clerk_id).ask(grant, work).await {
            Ok(granted) => granted,
            Err(Abandoned) => Some(Err(StoreError::new(ErrorKind::ConnectionLost, "the work ended before its answer"))),
        }
    }

    /// How the server goes about granting one of a meter; nothing is counted.
    pub async fn explain_consume(&self, clerk_id: &str, meter: Meter, now: DateTime<Utc>) -> Result<Plan, StoreError> {
        let log = PlanLog::default();
        let mut tx = self.begin().await?;
        let shares = BTreeMap::from([(clerk_id, Share { total: 1, now })]);
        let arguments = bind(&tx, meter, &shares).take_arguments().ok().flatten().unwrap_or_default();
        let explained = log.explain(tx.connection()?, statement(meter), arguments).await;
        tx.rollback().await;
        explained?;
        log.take().pop().ok_or_else(|| StoreError::new(ErrorKind::Unavailable, "there is no plan"))
    }

    async fn grant_all(&self, meter: Meter, grants: &[Grant]) -> Vec<Option<Result<Reading, StoreError>>> {
        let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
        for grant in grants {
            let share = shares.entry(&grant.clerk_id).or_default();
            share.total += i64::from(grant.amount);
            share.now = share.now.max(grant.now);
        }
        match self.grant_shares(meter, &shares).await {
            Ok(rows) => answers(grants, &shares, rows),
            // Undone for all because of one.
            Err(error) if matches!(error.kind(), ErrorKind::Contended | ErrorKind::Refused) => vec![None; grants.len()],
            // It may have been done, and must not be done twice.
            Err(error) => vec![Some(Err(error)); grants.len()],
        }
    }

    async fn grant_shares(&self, meter: Meter, shares: &BTreeMap<&str, Share>) -> Result<Vec<GrantedRow>, StoreError> {
        let mut tx = self.begin_single(BEGIN_CONSUME).await?;
        let rows = bind(&tx, meter, shares).fetch_all(tx.connection()?).await.map_err(StoreError::from);
        tx.end(rows).await
    }
}

/// One after the other, as if each had come by itself.
fn answers(grants: &[Grant], shares: &BTreeMap<&str, Share>, rows: Vec<GrantedRow>) -> Vec<Option<Result<Reading, StoreError>>> {
    let mut granted: BTreeMap<String, Reading> = BTreeMap::new();
    for row in rows {
        let total = shares.get(row.clerk_id.as_str()).map_or(0, |share| share.total);
        // What was used before.
        let used = i32::try_from(i64::from(row.used) - total).unwrap_or_default();
        granted.insert(row.clerk_id, Reading { allowed: true, used, limit: row.cap, resets_at: row.resets_at });
    }
    let answer = |grant: &Grant| {
        let reading = granted.get_mut(&grant.clerk_id)?;
        reading.used = reading.used.saturating_add(grant.amount);
        Some(Ok(reading.clone()))
    };
    grants.iter().map(answer).collect()
}

fn bind(tx: &Tx, meter: Meter, shares: &BTreeMap<&str, Share>) -> RowQuery<GrantedRow> {
    tx.query_as(statement(meter))
        .bind(shares.keys().map(|clerk_id| (*clerk_id).to_owned()).collect::<Vec<_>>())
        .bind(shares.values().map(|share| share.total).collect::<Vec<_>>())
        .bind(shares.values().map(|share| share.now).collect::<Vec<_>>())
}

fn statement(meter: Meter) -> &'static str {
    match meter {
        Meter::Campaigns => GRANT_CAMPAIGNS,
        Meter::Creators => GRANT_CREATORS,
        Meter::Enrichments => GRANT_ENRICHMENTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_user_are_answered_as_if_one_after_the_other() {
        let grant = |clerk_id: &str, amount| Grant { clerk_id: clerk_id.into(), amount, now: DateTime::UNIX_EPOCH };
        let grants = [grant("user_a", 2), grant("user_b", 1), grant("user_a", 5), grant("user_c", 1)];
        let share = |total| Share { total, now: DateTime::UNIX_EPOCH };
        let shares = BTreeMap::from([("user_a", share(7)), ("user_b", share(1)), ("user_c", share(1))]);
        let row = |clerk_id: &str, used| GrantedRow { clerk_id: clerk_id.into(), used, cap: Some(100), resets_at: None };
        let rows = vec![row("user_b", 9), row("user_a", 17)];
        let used = |answer: Option<Result<Reading, StoreError>>| answer.map(|reading| reading.unwrap().used);
        let found: Vec<_> = answers(&grants, &shares, rows).into_iter().map(used).collect();
        assert_eq!(found, [Some(12), Some(9), Some(17), None], "user_c was not counted");
    }
}
