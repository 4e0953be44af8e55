//! Erasing a person, from the search for mentions to the links that others gain by it. It may be interrupted anywhere and done
//! again: the tombstone is written in the one transaction that erases, and whatever follows finds what is left.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::ingest::transaction::{BatchError, reproject_because};
use crate::store::{Erasure, ErasureAttempt, Mentions, Store};

/// How often an account that somebody else holds, or that grows meanwhile, is tried.
const ATTEMPTS: usize = 20;
/// How long before the erasure an event may have been received that commits after it.
const IN_FLIGHT: TimeDelta = TimeDelta::minutes(5);

/// The type of the ledger's entries of users who gained a customer because a claim on it is gone.
pub const CAUSE: &str = "user.erase";

/// Erases a person by Clerk id. Doing it again is harmless, and takes out what an interrupted run has left.
pub async fn erase_user(store: &Store, clerk_id: &str, rules: &Rules, clock: &Clock) -> Result<Erasure, BatchError> {
    let addresses = store.list_addresses(clerk_id).await?;
    let mut customers = store.list_customers_to_erase(clerk_id, &addresses).await?;
    let started_at = clock.now();
    let mentions = find_mentions(store, clerk_id, &customers, &addresses, DateTime::UNIX_EPOCH).await?;
    let mut erasure = erase(store, clerk_id, &mut customers, &addresses, &mentions, clock).await?;
    // An event that names the person beside others holds none of the erasure's locks, and may not have known of it.
    store.let_batches_end().await?;
    let late = find_mentions(store, clerk_id, &customers, &addresses, started_at - IN_FLIGHT).await?;
    if !late.is_nothing() {
        erasure.mentions_replaced += store.erase_mentions(clerk_id, &late).await?;
    }
    relink(store, &erasure.customers, rules, clock).await?;
    Ok(erasure)
}

async fn find_mentions(
    store: &Store,
    clerk_id: &str,
    customers: &BTreeSet<String>,
    addresses: &[String],
    since: DateTime<Utc>,
) -> Result<Mentions, BatchError> {
    let customers: Vec<String> = customers.iter().cloned().collect();
    Ok(store.find_mentions(clerk_id, &customers, addresses, since).await?)
}

async fn erase(
    store: &Store,
    clerk_id: &str,
    customers: &mut BTreeSet<String>,
    addresses: &[String],
    mentions: &Mentions,
    clock: &Clock,
) -> Result<Erasure, BatchError> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts = attempts.saturating_sub(1);
        match store.erase(clerk_id, customers, addresses, mentions, clock.now()).await.map_err(BatchError::from) {
            Ok(ErasureAttempt::Done(erasure)) => return Ok(erasure),
            Ok(ErasureAttempt::Widen(more)) if attempts > 0 => customers.extend(more),
            Err(BatchError::Contended(_)) if attempts > 0 => {}
            Ok(ErasureAttempt::Widen(_)) => return Err(BatchError::Contended("the person's customers keep changing".into())),
            Err(error) => return Err(error),
        }
    }
}

/// A customer whom two people claimed belongs to the other one from now on.
async fn relink(store: &Store, customers: &[String], rules: &Rules, clock: &Clock) -> Result<(), BatchError> {
    let mut attempts = ATTEMPTS;
    loop {
        match reproject_because(CAUSE, store, customers, &[], rules, clock).await {
            Err(BatchError::Contended(_)) if attempts > 0 => attempts -= 1,
            other => return other.map(|_users| ()),
        }
    }
}
