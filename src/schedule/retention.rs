//! Retention: payload partitions are made ahead and dropped by age; idempotency keys and old runs are forgotten. The ledger's
//! own rows stay for ever.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};

use crate::schedule::{Summary, Task, TaskError, Work};

/// Payloads are kept at least so long: Stripe itself can repeat an event for 30 days.
const LEAST_LEDGER_DAYS: u32 = 35;

const CONSUME_KEY_DAYS: u64 = 1;
const RUN_DAYS: u64 = 14;

const ROWS_A_TRANSACTION: i64 = 5_000;

/// The task. `ledger_retention_days` is the setting: 0 keeps payloads for ever.
pub fn task(ledger_retention_days: u32) -> Task {
    let purpose = "Makes the ledger's partitions ahead, and forgets payloads and keys that have had their time";
    Task::new("retention", purpose, Duration::from_secs(3600), move |work| retain(work, ledger_retention_days))
}

/// Makes, drops and forgets what is due.
pub async fn retain(work: Work, ledger_retention_days: u32) -> Result<Summary, TaskError> {
    let now = work.clock.now();
    let mut summary = Summary::default();
    let made = work.store.ensure_payload_partitions(now).await?;
    summary.names.extend(made.iter().map(|name| format!("made {name}")));
    if let Some(keep_from) = keep_from(now, ledger_retention_days) {
        let dropped = work.store.drop_payload_partitions(keep_from).await?;
        summary.names.extend(dropped.iter().map(|name| format!("dropped {name}")));
    }
    summary.rows = summary.names.len() as u64;
    summary.batches = 1;
    while !work.stop.is_asked() {
        let keys = work.store.prune_consume_keys(before(now, CONSUME_KEY_DAYS), ROWS_A_TRANSACTION).await?;
        let runs = work.store.prune_runs(before(now, RUN_DAYS), ROWS_A_TRANSACTION).await?;
        summary.rows += keys + runs;
        summary.batches += 1;
        if keys + runs == 0 {
            return Ok(summary);
        }
    }
    summary.stopped = true;
    Ok(summary)
}

/// From when payloads are kept; `None`: all of them.
fn keep_from(now: DateTime<Utc>, ledger_retention_days: u32) -> Option<DateTime<Utc>> {
    (ledger_retention_days > 0).then(|| before(now, u64::from(ledger_retention_days.max(LEAST_LEDGER_DAYS))))
}

fn before(now: DateTime<Utc>, days: u64) -> DateTime<Utc> {
    now.checked_sub_days(Days::new(days)).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
}
