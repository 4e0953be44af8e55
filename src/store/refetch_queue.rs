//! `billsync.refetch_queue`: what the provider has to be asked about. A work list; the facts alone say whether it is needed.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::domain::billing::stored::Refetch;
use crate::store::error::StoreError;
use crate::store::pool::{Statement, Store};

parts! {
    /// A known entry keeps its time and its attempts, unless a later second of the object is ambiguous too.
    ENQUEUE_REFETCHES = "\
        refetches_enqueued as (insert into billsync.refetch_queue as q (object_id, after, reason) \
        select x.object_id, x.after, x.reason \
        from unnest($1::text[], $2::timestamptz[], $3::text[]) as x(object_id, after, reason) \
        on conflict (object_id) do update set after = excluded.after, reason = excluded.reason, attempts = 0 \
            where excluded.reason = 'ambiguous' and q.after < excluded.after)";
}

statements! {
    LIST_DUE_REFETCHES = "\
        select object_id from billsync.refetch_queue where after <= $1 order by after, object_id limit $2";

    /// The facts say whether asking is still of use: an order that nobody knows, or a payment method that a user's row names
    /// and of which none of the row's customers has a fact. Whoever lives by a test clock is left alone.
    FIND_REFETCH_CONDITIONS = "\
        select distinct on (q.object_id) q.object_id, q.attempts, o.provider, o.object_type, o.owner_id, o.as_of, \
            b.stripe_customer_id as named_by, \
            case when w.test_clock is not null then false \
                when q.reason = 'ambiguous' then coalesce(o.ambiguous, false) \
                else b.user_id is not null \
                    and (o.fact is null or o.owner_id is null or w.clerk_user_id is distinct from u.user_id) end as holds \
        from billsync.refetch_queue q \
        left join billsync.provider_objects o \
            on o.object_id = q.object_id and o.account = '' and o.provider in ('stripe', 'clerk') \
        left join public.user_billing b on b.payment_method_id = q.object_id \
        left join public.users u on u.id = b.user_id \
        left join billsync.owners w on w.owner_id = coalesce(o.owner_id, b.stripe_customer_id) \
        where q.object_id = any($1) order by q.object_id, o.provider desc, holds desc, b.user_id";

    DELETE_REFETCHES = "delete from billsync.refetch_queue where object_id = any($1)";

    POSTPONE_REFETCHES = "\
        update billsync.refetch_queue q set attempts = q.attempts + 1, after = x.after \
        from unnest($1::text[], $2::timestamptz[]) as x(object_id, after) where q.object_id = x.object_id";

    COUNT_REFETCHES = "select count(*) from billsync.refetch_queue";
}

/// An entry of the queue, and whether it is still of use.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct QueuedRefetch {
    pub object_id: String,
    pub attempts: i32,
    /// `None` for an object that was never seen; those are Stripe's.
    pub provider: Option<String>,
    pub object_type: Option<String>,
    /// Of one of Clerk's: whose it is.
    pub owner_id: Option<String>,
    pub as_of: Option<DateTime<Utc>>,
    /// The customer whose user's row names it as what is charged next.
    pub named_by: Option<String>,
    pub holds: bool,
}

impl Store {
    /// The ids of objects that are to be asked about by now, the longest due first.
    pub async fn list_due_refetches(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let rows: Vec<(String,)> = tx.query_as(LIST_DUE_REFETCHES).bind(now).bind(limit).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(object_id,)| object_id).collect())
    }

    /// What the facts say of these entries.
    pub async fn find_refetch_conditions(&self, ids: &[String]) -> Result<Vec<QueuedRefetch>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = tx.query_as(FIND_REFETCH_CONDITIONS).bind(ids.to_vec()).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Takes entries out of the queue.
    pub async fn delete_refetches(&self, ids: &[String]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.query(DELETE_REFETCHES).bind(ids.to_vec()).execute(tx.connection()?).await?;
        tx.commit().await
    }

    /// Counts an attempt and names the time of the next.
    pub async fn postpone_refetches(&self, next: &[(String, DateTime<Utc>)]) -> Result<(), StoreError> {
        let (ids, times): (Vec<String>, Vec<DateTime<Utc>>) = next.iter().cloned().unzip();
        let mut tx = self.begin().await?;
        tx.query(POSTPONE_REFETCHES).bind(ids).bind(times).execute(tx.connection()?).await?;
        tx.commit().await
    }

    /// How many entries there are, due or not.
    pub async fn count_refetches(&self) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let (count,): (i64,) = tx.query_as(COUNT_REFETCHES).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(count.unsigned_abs())
    }
}

/// Binds [`ENQUEUE_REFETCHES`]; one entry per object.
pub(crate) fn bind_enqueue(query: Statement, refetches: &[Refetch]) -> Statement {
    query
        .bind(refetches.iter().map(|refetch| refetch.object_id.as_str()).collect::<Vec<_>>())
        .bind(refetches.iter().map(|refetch| refetch.after).collect::<Vec<_>>())
        .bind(refetches.iter().map(|refetch| refetch.reason).collect::<Vec<_>>())
}
