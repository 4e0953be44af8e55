//! Reads the providers' APIs, compares, and feeds what they say into the same queues and transactions as webhooks: there is no
//! other way to change a row. Webhooks can be lost for good; after this, it does not matter.

mod absorb;
mod backfill;
mod catch_up;
mod clerk_users;
mod customer;
mod drift;
mod kept;
mod missed;
mod refetch;
mod survey;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::clerk_api::{ClerkApi, ClerkApiError};
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::domain::rules::Rules;
use crate::ingest::committer::{Committer, SubmitError};
use crate::ingest::transaction::Receipt;
use crate::store::{Store, StoreError};
use crate::stripe_api::{ApiError, StripeApi};

pub use self::absorb::{Mode, Report};
pub use self::backfill::Backfill;
pub use self::catch_up::{CaughtUp, caught_up_to};
pub use self::drift::{Drift, MissedEvent};
pub use self::refetch::Drained;
pub use self::walk::{OnProgress, Progress, Stage};

/// How long a database that is away, or an account that is locked, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that reading and feeding takes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reconciler {
    apis: Apis,
    store: Store,
    committer: Committer,
    rules: Arc<Rules>,
    clock: Clock,
}

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Apis {
    pub stripe: Option<StripeApi>,
    pub clerk: Option<ClerkApi>,
}

impl From<StripeApi> for Apis {
    fn from(api: StripeApi) -> Apis {
        Apis { stripe: Some(api), clerk: None }
    }
}

/// Why a reading ended before its end. What it had read until then is kept.
#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Clerk(#[from] ClerkApiError),
    #[error("{0} is not set: there is nobody to ask")]
    NoKey(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the API says could not be kept: {0}")]
    Submit(#[from] SubmitError),
}

impl Reconciler {
    /// Reads with `apis` and writes by way of `committer`.
    pub fn new(apis: impl Into<Apis>, store: Store, committer: Committer, rules: Arc<Rules>, clock: Clock) -> Reconciler {
        Reconciler { apis: apis.into(), store, committer, rules, clock }
    }

    /// Whether there is a Stripe to ask.
    pub fn reads_stripe(&self) -> bool {
        self.apis.stripe.is_some()
    }

    /// Whether there is a Clerk to ask.
    pub fn reads_clerk(&self) -> bool {
        self.apis.clerk.is_some()
    }

    fn stripe(&self) -> Result<&StripeApi, ReconcileError> {
        self.apis.stripe.as_ref().ok_or(ReconcileError::NoKey("STRIPE_API_KEY"))
    }

    fn clerk(&self) -> Result<&ClerkApi, ReconcileError> {
        self.apis.clerk.as_ref().ok_or(ReconcileError::NoKey("CLERK_SECRET_KEY"))
    }

    /// Hands an event over and waits until it is committed, also through a short absence of the database.
    async fn submit(&self, event: Event) -> Result<Receipt, SubmitError> {
        let began = tokio::time::Instant::now();
        loop {
            match self.committer.submit_patiently(event.clone()).await {
                Err(error) if error != SubmitError::Closed && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_secs(error.retry_after_seconds().into())).await;
                }
                settled => return settled,
            }
        }
    }

    /// [`Reconciler::submit`] for many, which then share transactions. One receipt an event, in order.
    async fn submit_all(&self, events: Vec<Event>) -> Result<Vec<Receipt>, SubmitError> {
        futures_util::future::try_join_all(events.into_iter().map(|event| self.submit(event))).await
    }
}
