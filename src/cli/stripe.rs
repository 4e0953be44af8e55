//! What commands need to read Stripe's API: the client that the settings describe, and the queues in front of the database.

use std::sync::Arc;

use anyhow::{Context, bail};

use crate::cli::database::Database;
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::committer::{self, Committer};
use crate::reconcile::Reconciler;
use crate::store::Store;
use crate::stripe_api::{DEFAULT_BASE, Options, StripeApi};

/// The client of Stripe's API; `None` without `STRIPE_API_KEY`.
pub fn api(config: &Config) -> anyhow::Result<Option<StripeApi>> {
    let Some(key) = &config.stripe_api_key else { return Ok(None) };
    let options = Options {
        base: config.stripe_api_base.clone().unwrap_or_else(|| DEFAULT_BASE.to_owned()),
        requests_per_second: config.stripe_requests_per_second,
        ..Options::default()
    };
    Ok(Some(StripeApi::new(key, options, Clock::System)?))
}

/// What reads Stripe for these settings and writes by way of that committer; `None` without `STRIPE_API_KEY`.
pub fn reconciler(config: &Config, store: &Store, committer: &Committer) -> anyhow::Result<Option<Reconciler>> {
    let rules = Arc::new(config.rules.clone());
    let api = api(config)?;
    Ok(api.map(|api| Reconciler::new(api, store.clone(), committer.clone(), rules, Clock::System)))
}

/// Starts queues of the command's own.
pub fn start_committer(config: &Config, store: &Store) -> Committer {
    let options = committer::Options { queue_events: config.queue_events, ..committer::Options::default() };
    Committer::start(store.clone(), Arc::new(config.rules.clone()), Clock::System, options)
}

/// Does `work` with Stripe's API and the database, then writes out what waits.
pub async fn with_reconciler<T>(
    config: &Config,
    database: &Database,
    work: impl AsyncFnOnce(Reconciler) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let committer = start_committer(config, &database.store);
    let Some(reconciler) = reconciler(config, &database.store, &committer)? else {
        bail!("STRIPE_API_KEY is not set: there is nobody to ask");
    };
    let done = work(reconciler).await;
    let is_drained = committer.close().await;
    let value = done?;
    is_drained.then_some(value).context("a writer died; see the log")
}
