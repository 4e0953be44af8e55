//! Changes to a user that do not come from a provider, under the locks of a batch: what the application writes that the
//! projection reads, and users whom no event has made yet.

use chrono::{DateTime, Utc};

use super::{BatchError, Concerned, Done, Work, run};
use crate::clock::Clock;
use crate::domain::rules::Rules;
use crate::store::{ProfileUpdate, Store, StoreError, Tx, Updated, ensure_rows, write_profile};

/// How often an account that somebody else holds is tried, each time for as long as a batch waits for a lock.
const ATTEMPTS: usize = 20;

/// What is written before the projection.
pub(super) enum ProfileChange {
    Update(ProfileUpdate),
    Ensure,
}

/// Writes an update of the application's own columns, in one round trip; if the projection reads one of them, the user is
/// projected anew in the same transaction. Gives the new profile back.
pub async fn update_user(
    store: &Store,
    clerk_id: &str,
    update: ProfileUpdate,
    rules: &Rules,
    clock: &Clock,
) -> Result<Updated, BatchError> {
    if !update.concerns_projection() {
        return Ok(store.write_profile(clerk_id, &update).await?);
    }
    let done = change(store, "profile.update", clerk_id, &ProfileChange::Update(update), rules, clock).await?;
    match done.updated {
        // What was written came before the projection.
        Some(Updated::Done(_)) => {
            let profile = store.get_user_profile(clerk_id).await?;
            Ok(profile.map_or(Updated::UnknownUser, |profile| Updated::Done(Box::new(profile))))
        }
        other => Ok(other.unwrap_or(Updated::UnknownUser)),
    }
}

/// Makes the five rows of a user whom no event has made yet, or those that are missing, from what is known of them: however
/// many callers come at once, one user. Of one who has them all, that is found out in one round trip. Returns whether a row had
/// to be made or changed.
pub async fn ensure_user(store: &Store, clerk_id: &str, rules: &Rules, clock: &Clock) -> Result<bool, BatchError> {
    if store.has_rows(clerk_id).await? {
        return Ok(false);
    }
    Ok(change(store, "user.ensure", clerk_id, &ProfileChange::Ensure, rules, clock).await?.users > 0)
}

async fn change(
    store: &Store,
    cause: &'static str,
    clerk_id: &str,
    change: &ProfileChange,
    rules: &Rules,
    clock: &Clock,
) -> Result<Done, BatchError> {
    let clerk_ids = [clerk_id.to_owned()];
    let work = Work::Accounts { cause, customers: &[], clerk_ids: &clerk_ids, change: Some(change) };
    let mut attempts = ATTEMPTS;
    loop {
        match run(store, Concerned::of_accounts(&[], &clerk_ids, rules), &work, rules, clock).await {
            Err(BatchError::Contended(_)) if attempts > 0 => attempts -= 1,
            other => return other,
        }
    }
}

impl Work<'_> {
    /// Writes what comes before the projection, if anything does.
    pub(super) async fn change(&self, tx: &mut Tx, now: DateTime<Utc>) -> Result<Option<Updated>, StoreError> {
        let Work::Accounts { change: Some(change), clerk_ids: [clerk_id], .. } = self else { return Ok(None) };
        match change {
            ProfileChange::Update(update) => write_profile(tx, clerk_id, update).await.map(Some),
            ProfileChange::Ensure => ensure_rows(tx, clerk_id, now).await.map(|_made| None),
        }
    }
}
