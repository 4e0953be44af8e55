//! Users from Clerk's API: read, decoded, and handed to the same queues, fold and transaction as a webhook, as facts of the
//! source `reconcile`. A user who is known already, and as new, stays as is.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use thiserror::Error;

use crate::clerk_api::{ClerkApi, ClerkApiError, FetchedUser, UserCursor};
use crate::domain::clerk::{self, ApiRead};
use crate::domain::event::{Event, Outcome};
use crate::ingest::committer::{Committer, SubmitError};
use crate::ingest::missing_user::{SourceError, UserSource};
use crate::ingest::transaction::Receipt;
use crate::store::{Store, StoreError};

/// Users of a page on their way at a time.
const IN_FLIGHT: usize = 32;
/// How long a database that is away, or an account that is locked, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// The rows were made.
    Created,
    /// The rows were there, and are as new as what Clerk says.
    Known,
    /// What Clerk says was kept, but not applied: why.
    NotApplied(String),
    /// Clerk does not (or no longer) have it.
    NotFound,
    /// Clerk's answer is no user that can be read: why.
    Malformed(String),
}

/// A page of users, done.
#[derive(Clone, Debug)]
pub struct EnsuredPage {
    /// Id and outcome; an object without an id has none.
    pub users: Vec<(Option<String>, Ensured)>,
    /// Where to go on; `None` after the last page.
    pub next: Option<UserCursor>,
}

/// Why users could not be ensured. Nothing is lost: it can be done again.
#[derive(Debug, Error)]
pub enum EnsureError {
    #[error(transparent)]
    Api(#[from] ClerkApiError),
    #[error("cannot commit what Clerk says: {0}")]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserSource for ClerkApi {
    fn fetch_user<'a>(&'a self, clerk_id: &'a str) -> BoxFuture<'a, Result<Option<Event>, SourceError>> {
        let fetch = async move {
            let fetched = ClerkApi::fetch_user(self, clerk_id).await.map_err(|error| SourceError(error.to_string()))?;
            let Some(user) = fetched else { return Ok(None) };
            let read = ApiRead::plain(user.as_of);
            clerk::decode_object(&user.text, &read).map(Some).map_err(|malformed| SourceError(malformed.to_string()))
        };
        fetch.boxed()
    }
}

/// What users are ensured with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ensurer {
    pub api: ClerkApi,
    pub committer: Committer,
    pub store: Store,
}

impl Ensurer {
    /// Reads one user and makes (or brings up to date) the five rows.
    pub async fn ensure_user(&self, clerk_id: &str) -> Result<Ensured, EnsureError> {
        let Some(user) = self.api.fetch_user(clerk_id).await? else { return Ok(Ensured::NotFound) };
        let known = self.store.list_known_users(&[clerk_id.to_owned()]).await?;
        Ok(self.commit(&user, !known.is_empty()).await?)
    }

    /// Reads the next page of all users and commits it. The cursor that is given back may be kept: all before it is done.
    pub async fn ensure_page(&self, cursor: &UserCursor) -> Result<EnsuredPage, EnsureError> {
        let page = self.api.list_users(cursor, None).await?;
        let ids: Vec<String> = page.users.iter().filter_map(|user| user.id.clone()).collect();
        let known: HashSet<String> = self.store.list_known_users(&ids).await?.into_iter().collect();
        let known = &known;
        let commits = futures_util::stream::iter(page.users).map(async |user: FetchedUser| {
            let is_known = user.id.as_ref().is_some_and(|id| known.contains(id));
            self.commit(&user, is_known).await.map(|ensured| (user.id, ensured))
        });
        let done: Vec<Result<_, SubmitError>> = commits.buffered(IN_FLIGHT).collect().await;
        Ok(EnsuredPage { users: done.into_iter().collect::<Result<_, _>>()?, next: page.next })
    }

    async fn commit(&self, user: &FetchedUser, is_known: bool) -> Result<Ensured, SubmitError> {
        let read = ApiRead::plain(user.as_of);
        let event = match clerk::decode_object(&user.text, &read) {
            Ok(event) => event,
            Err(malformed) => return Ok(Ensured::Malformed(malformed.0)),
        };
        let receipt = submit(&self.committer, event).await?;
        Ok(match receipt.outcome {
            Outcome::Ignored | Outcome::Failed | Outcome::Unlinked => {
                Ensured::NotApplied(receipt.reason.unwrap_or_else(|| receipt.outcome.as_str().to_owned()))
            }
            Outcome::Applied if !is_known => Ensured::Created,
            Outcome::Applied | Outcome::Stale | Outcome::Duplicate => Ensured::Known,
        })
    }
}

async fn submit(committer: &Committer, event: Event) -> Result<Receipt, SubmitError> {
    let started = Instant::now();
    loop {
        match committer.submit_patiently(event.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(SubmitError::Closed) => return Err(SubmitError::Closed),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(error) => tokio::time::sleep(Duration::from_secs(error.retry_after_seconds().into())).await,
        }
    }
}
