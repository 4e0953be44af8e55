//! What commands need to read the providers' APIs: the clients that the settings describe, and the queues in front of the
//! database.

use std::sync::Arc;

use anyhow::Context;

use crate::cli::database::Database;
use crate::cli::interruption::unless_ended;
use crate::cli::users::clerk_api;
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::committer::{self, Committer};
use crate::reconcile::{Apis, Reconciler};
use crate::store::Store;
use crate::stripe_api::{DEFAULT_BASE, Options, StripeApi};

/// The client of Stripe's API; `None` without `STRIPE_API_KEY`.
pub fn api(config: &Config) -> anyhow::Result<Option<StripeApi>> {
    api_with(config, Options::default())
}

/// The same with other bounds than the usual ones; whom to ask, and how often, the settings say.
pub fn api_with(config: &Config, bounds: Options) -> anyhow::Result<Option<StripeApi>> {
    let Some(key) = &config.stripe_api_key else { return Ok(None) };
    let options = Options {
        base: config.stripe_api_base.clone().unwrap_or_else(|| DEFAULT_BASE.to_owned()),
        requests_per_second: config.stripe_requests_per_second,
        ..bounds
    };
    Ok(Some(StripeApi::new(key, options, Clock::System)?))
}

/// What reads those providers for whom the settings have a key, and writes by way of that committer.
pub fn reconciler(config: &Config, store: &Store, committer: &Committer) -> anyhow::Result<Reconciler> {
    let rules = Arc::new(config.rules.clone());
    let clerk = config.clerk_secret_key.is_some().then(|| clerk_api(config)).transpose()?;
    let apis = Apis { stripe: api(config)?, clerk };
    Ok(Reconciler::new(apis, store.clone(), committer.clone(), rules, Clock::System))
}

/// Starts queues of the command's own.
pub fn start_committer(config: &Config, store: &Store) -> Committer {
    let options = committer::Options { queue_events: config.queue_events, ..committer::Options::default() };
    Committer::start(store.clone(), Arc::new(config.rules.clone()), Clock::System, options)
}

/// Does `work` with the providers' APIs and the database, unless somebody wants an end, then writes out what waits.
pub async fn with_reconciler<T>(
    config: &Config,
    database: &Database,
    work: impl AsyncFnOnce(Reconciler) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let committer = start_committer(config, &database.store);
    let done = match reconciler(config, &database.store, &committer) {
        Ok(reconciler) => unless_ended(work(reconciler)).await,
        Err(error) => Err(error),
    };
    let is_drained = committer.close().await;
    let value = done?;
    is_drained.then_some(value).context("a writer died; see the log")
}
