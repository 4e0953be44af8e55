//! Whom to ask about a user that no event has made yet. Who answers is behind [`UserSource`]: Clerk's API, or nobody.

use std::fmt;

use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::domain::event::Event;
use crate::ingest::committer::{Committer, SubmitError};

/// Why a user could not be asked for; a later try may succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Where users are known before their events arrive.
pub trait UserSource: fmt::Debug + Send + Sync {
    /// What is known of a user, as the event of an API read; `None` when there is no such user.
    fn fetch_user<'a>(&'a self, clerk_id: &'a str) -> BoxFuture<'a, Result<Option<Event>, SourceError>>;
}

/// Why a missing user was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MissingUserError {
    #[error("asking for the user: {0}")]
    Source(#[from] SourceError),
    #[error("keeping the user: {0}")]
    Submit(#[from] SubmitError),
}

/// Asks for a user and keeps what is answered by way of the queues, like any event: however many ask at once, one user is
/// made. False when there is no such user.
pub async fn make_missing_user(source: &dyn UserSource, committer: &Committer, clerk_id: &str) -> Result<bool, MissingUserError> {
    let Some(event) = source.fetch_user(clerk_id).await? else { return Ok(false) };
    committer.submit(event).await?;
    Ok(true)
}
