//! The clock sweep: re-projects users whose `next_change_at` has come, with the same locks and the same fold as a webhook.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ingest::transaction::{BatchError, reproject_because};
use crate::schedule::{Summary, Task, TaskError, Work};

/// The type of the ledger's entries.
pub const CAUSE: &str = "clock.sweep";

/// Read at a time.
const PAGE: i64 = 1000;

/// Few enough that their locks are held briefly.
const USERS_A_TRANSACTION: usize = 32;

/// The task.
pub fn task() -> Task {
    let purpose = "Works out anew the rows of users whom the passing of time changes";
    Task::new("clock-sweep", purpose, Duration::from_secs(15), sweep)
}

/// Re-projects everybody who is due. A user whom the database refuses, or somebody else holds, stays due and is passed over.
pub async fn sweep(work: Work) -> Result<Summary, TaskError> {
    let now = work.clock.now();
    let mut summary = Summary::default();
    let mut after = (DateTime::<Utc>::UNIX_EPOCH, String::new());
    loop {
        let due = work.store.list_clock_due(now, &after, PAGE).await?;
        let Some(last) = due.last() else { return Ok(summary) };
        after.clone_from(last);
        let clerk_ids: Vec<String> = due.into_iter().map(|(_, clerk_id)| clerk_id).collect();
        for batch in clerk_ids.chunks(USERS_A_TRANSACTION) {
            if work.stop.is_asked() {
                summary.stopped = true;
                return Ok(summary);
            }
            sweep_batch(&work, batch, &mut summary).await?;
        }
    }
}

/// Halves a batch that is refused or held by somebody else, so that one user does not keep the others waiting.
async fn sweep_batch(work: &Work, batch: &[String], summary: &mut Summary) -> Result<(), TaskError> {
    let mut waiting = vec![batch];
    while let Some(part) = waiting.pop() {
        summary.batches += 1;
        match reproject_because(CAUSE, &work.store, &[], part, &work.rules, &work.clock).await {
            Ok(changed) => summary.rows += changed as u64,
            Err(error @ (BatchError::Contended(_) | BatchError::Poison(_))) => {
                if let [user] = part {
                    summary.left += 1;
                    tracing::warn!(user = %user, cause = %error, "could not work out a user's rows anew");
                } else {
                    let (one, other) = part.split_at(part.len() / 2);
                    waiting.extend([other, one]);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
