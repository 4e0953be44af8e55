//! `billsync.schedule_leases` and `billsync.schedule_runs`. Leases live by the database's clock: it is the one that every
//! process shares, and how long a process has been silent is no matter of the time that a task works by.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use crate::store::error::StoreError;
use crate::store::pool::Store;

statements! {
    /// A row comes back only when the lease was free, had run out, or is the holder's own.
    TAKE_LEASE = "\
        insert into billsync.schedule_leases as l (name, holder, expires_at) \
        values ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
        on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at \
            where l.holder = excluded.holder or l.expires_at <= clock_timestamp() \
        returning l.name";

    RENEW_LEASE = "\
        update billsync.schedule_leases set expires_at = clock_timestamp() + make_interval(secs => $3) \
        where name = $1 and holder = $2 and expires_at > clock_timestamp() returning name";

    RELEASE_LEASE = "delete from billsync.schedule_leases where name = $1 and holder = $2";

    BEGIN_RUN = "insert into billsync.schedule_runs (name, started_at) values ($1, $2) returning id";

    FINISH_RUN = "\
        update billsync.schedule_runs set finished_at = $2, succeeded = $3, summary = $4::jsonb, error = $5 where id = $1";

    LAST_RUNS = "\
        select r.name, r.started_at, r.finished_at, r.succeeded, r.summary::text as summary, r.error, \
            (select l.holder from billsync.schedule_leases l where l.name = r.name and l.expires_at > clock_timestamp()) as holder \
        from unnest($1::text[]) as n(name) \
        cross join lateral (select * from billsync.schedule_runs s where s.name = n.name \
            order by s.started_at desc, s.id desc limit 1) r";

    /// The newest of each name stays, however old: it says when a task is due.
    PRUNE_RUNS = "\
        delete from billsync.schedule_runs r where r.id in ( \
            select o.id from billsync.schedule_runs o where o.started_at < $1 \
              and exists (select from billsync.schedule_runs n where n.name = o.name and n.started_at > o.started_at) \
            limit $2)";
}

/// The newest run of a task.
#[derive(Clone, Debug, Serialize)]
pub struct LastRun {
    pub name: String,
    pub started_at: DateTime<Utc>,
    /// `None` while it runs, and for ever if its process died.
    pub finished_at: Option<DateTime<Utc>>,
    pub succeeded: Option<bool>,
    pub summary: Option<Value>,
    pub error: Option<String>,
    /// Who runs the task at the moment.
    pub holder: Option<String>,
}

#[derive(Debug, FromRow)]
struct LastRunRow {
    name: String,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    succeeded: Option<bool>,
    summary: Option<String>,
    error: Option<String>,
    holder: Option<String>,
}

impl Store {
    /// Takes the lease of a task for that long. False when somebody else holds it.
    pub async fn take_lease(&self, name: &str, holder: &str, lasts: Duration) -> Result<bool, StoreError> {
        self.lease(TAKE_LEASE, name, holder, lasts).await
    }

    /// Prolongs a lease. False when it has run out or is somebody else's: the work has to end.
    pub async fn renew_lease(&self, name: &str, holder: &str, lasts: Duration) -> Result<bool, StoreError> {
        self.lease(RENEW_LEASE, name, holder, lasts).await
    }

    async fn lease(&self, sql: &'static str, name: &str, holder: &str, lasts: Duration) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(sql).bind(name.to_owned()).bind(holder.to_owned()).bind(lasts.as_secs_f64());
        let held = query.fetch_optional(tx.connection()?).await?.is_some();
        tx.commit().await?;
        Ok(held)
    }

    /// Gives a lease back.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.query(RELEASE_LEASE).bind(name.to_owned()).bind(holder.to_owned()).execute(tx.connection()?).await?;
        tx.commit().await
    }

    /// Notes that a task has begun; returns the run's id.
    pub async fn begin_run(&self, name: &str, now: DateTime<Utc>) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let (id,): (i64,) = tx.query_as(BEGIN_RUN).bind(name.to_owned()).bind(now).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Notes how a run ended: well when there is no error.
    pub async fn finish_run(
        &self,
        id: i64,
        now: DateTime<Utc>,
        summary: Option<&Value>,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let query = tx
            .query(FINISH_RUN)
            .bind(id)
            .bind(now)
            .bind(error.is_none())
            .bind(summary.map(Value::to_string))
            .bind(error.map(str::to_owned));
        query.execute(tx.connection()?).await?;
        tx.commit().await
    }

    /// The newest run of each of these tasks that has ever run.
    pub async fn last_runs(&self, names: &[&str]) -> Result<Vec<LastRun>, StoreError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut tx = self.begin().await?;
        let rows: Vec<LastRunRow> = tx.query_as(LAST_RUNS).bind(names).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(LastRun::from).collect())
    }

    /// Forgets up to `limit` runs that began before `before`; returns how many.
    pub async fn prune_runs(&self, before: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let done = tx.query(PRUNE_RUNS).bind(before).bind(limit).execute(tx.connection()?).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

impl From<LastRunRow> for LastRun {
    fn from(row: LastRunRow) -> LastRun {
        LastRun {
            name: row.name,
            started_at: row.started_at,
            finished_at: row.finished_at,
            succeeded: row.succeeded,
            summary: row.summary.and_then(|text| serde_json::from_str(&text).ok()),
            error: row.error,
            holder: row.holder,
        }
    }
}
