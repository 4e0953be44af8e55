//! `billsync.refetch_queue`: what the provider has to be asked about. A work list; the facts alone say whether it is needed.

use crate::domain::billing::stored::Refetch;
use crate::store::error::StoreError;
use crate::store::pool::Tx;

statements! {
    /// A known entry keeps its time and its attempts, unless a later second of the object is ambiguous too.
    ENQUEUE_REFETCHES = "\
        insert into billsync.refetch_queue as q (object_id, after, reason) \
        select x.object_id, x.after, x.reason \
        from unnest($1::text[], $2::timestamptz[], $3::text[]) as x(object_id, after, reason) \
        on conflict (object_id) do update set after = excluded.after, reason = excluded.reason, attempts = 0 \
            where excluded.reason = 'ambiguous' and q.after < excluded.after";
}

/// Adds entries; one per object.
pub(crate) async fn enqueue(tx: &mut Tx, refetches: &[Refetch]) -> Result<(), StoreError> {
    let query = tx
        .query(ENQUEUE_REFETCHES)
        .bind(refetches.iter().map(|refetch| refetch.object_id.as_str()).collect::<Vec<_>>())
        .bind(refetches.iter().map(|refetch| refetch.after).collect::<Vec<_>>())
        .bind(refetches.iter().map(|refetch| refetch.reason).collect::<Vec<_>>());
    query.execute(tx.connection()?).await?;
    Ok(())
}
