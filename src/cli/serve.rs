//! `billsync serve`: receive webhooks until asked to end.

mod sessions;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::stripe;
use crate::cli::users::clerk_api;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::domain::signature::standard_webhooks::ClerkSecret;
use crate::domain::signature::stripe::StripeSecret;
use crate::http::application::Application;
use crate::http::auth::ApiToken;
use crate::http::end_signals::EndSignals;
use crate::http::server::{self, ServerOptions};
use crate::ingest::committer;
use crate::ingest::missing_user::UserSource;
use crate::metrics;
use crate::schedule::{self, Schedule, Work};
use crate::store::Store;

/// Receive webhooks, until SIGTERM or Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync serve\n  \
    STRIPE_WEBHOOK_SECRETS=whsec_… CLERK_WEBHOOK_SECRETS=whsec_… billsync serve --listen 0.0.0.0:8787\n\n\
    Without DATABASE_URL it starts an embedded Postgres under BILLSYNC_HOME.")]
pub struct ServeCommand {}

impl ServeCommand {
    /// Serves, and ends in order: requests, queues, connections, embedded server.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut signals = EndSignals::listen()?;
        server::try_address(&config.listen).with_context(|| format!("cannot serve on {} (BILLSYNC_LISTEN)", config.listen))?;
        let database = tokio::select! {
            opened = Database::open(config, Schema::Migrate) => opened?,
            name = signals.next() => {
                tracing::info!("{name}: ended before it served");
                return Ok(Exit::Success);
            }
        };
        let served = tokio::select! {
            served = serve(config, &database, &mut signals) => served,
            lost = database.lost() => Err(lost),
        };
        database.close_after(served).await?;
        Ok(Exit::Success)
    }
}

async fn serve(config: &Config, database: &Database, signals: &mut EndSignals) -> anyhow::Result<()> {
    warn_of_gaps(config, &database.store).await?;
    let application = start(config, &config.listen, &database.store)?;
    for address in application.addresses() {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            database = %database.description,
            stripe = mounted(&config.stripe_webhook_secrets),
            clerk = mounted(&config.clerk_webhook_secrets),
            "listening on http://{address}"
        );
    }
    application.run_until(signals).await?;
    tracing::info!("ended; everything that was accepted is in the ledger");
    Ok(())
}

fn mounted(secrets: &[Secret]) -> &'static str {
    if secrets.is_empty() { "not mounted" } else { "mounted" }
}

/// Starts queues, server and schedule; the schedule ends with the application.
pub fn start(config: &Config, listen: &str, store: &Store) -> anyhow::Result<Application> {
    let committer_options = committer::Options { queue_events: config.queue_events, ..committer::Options::default() };
    let server_options = ServerOptions {
        listen: listen.to_owned(),
        stripe_secrets: stripe_secrets(&config.stripe_webhook_secrets)?,
        clerk_secrets: clerk_secrets(&config.clerk_webhook_secrets)?,
        signature_tolerance: Duration::from_secs(config.signature_tolerance_seconds.unsigned_abs()),
        body_limit_bytes: config.body_limit_bytes,
        store: Some(store.clone()),
        api_tokens: api_tokens(config)?,
        sessions: sessions::sessions(config)?,
        user_source: user_source(config)?,
        ..ServerOptions::default()
    };
    let rules = Arc::new(config.rules.clone());
    let work = Work::new(store.clone(), Arc::clone(&rules), Clock::System);
    tokio::spawn(remember_newest_events(store.clone()));
    let mut application = Application::start(store.clone(), rules, Clock::System, committer_options, server_options)?;
    let reconciler = stripe::reconciler(config, store, application.committer())?;
    let tasks = schedule::tasks(config.ledger_retention_days, Some(&reconciler));
    application.end_with(Schedule::start(tasks, &work).stop());
    Ok(application)
}

/// The age of the newest event is what tells that a provider has stopped delivering, also right after a restart. Beside the
/// start, because in a large ledger it takes a while.
async fn remember_newest_events(store: Store) {
    match store.list_newest_event_times().await {
        Ok(times) => times.into_iter().for_each(|(provider, at)| metrics::note_newest(provider, at)),
        Err(error) => tracing::debug!(cause = %error, "the age of the newest events is not known until the next one"),
    }
}

fn user_source(config: &Config) -> anyhow::Result<Option<Arc<dyn UserSource>>> {
    if config.clerk_secret_key.is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(clerk_api(config)?)))
}

fn api_tokens(config: &Config) -> anyhow::Result<Vec<ApiToken>> {
    let tokens = config.api_tokens.iter().map(|token| ApiToken::new(&token.name, token.token.expose()));
    tokens.collect::<Result<_, _>>().context("BILLSYNC_API_TOKENS")
}

fn stripe_secrets(secrets: &[Secret]) -> anyhow::Result<Vec<StripeSecret>> {
    secrets.iter().map(|secret| Ok(StripeSecret::parse(secret.expose()).context("STRIPE_WEBHOOK_SECRETS")?.secret)).collect()
}

fn clerk_secrets(secrets: &[Secret]) -> anyhow::Result<Vec<ClerkSecret>> {
    secrets.iter().map(|secret| Ok(ClerkSecret::parse(secret.expose()).context("CLERK_WEBHOOK_SECRETS")?.secret)).collect()
}

/// Says what is allowed, yet leaves billsync without its work.
async fn warn_of_gaps(config: &Config, store: &Store) -> anyhow::Result<()> {
    for (secrets, setting, route) in [
        (&config.stripe_webhook_secrets, "STRIPE_WEBHOOK_SECRETS", "/webhooks/stripe"),
        (&config.clerk_webhook_secrets, "CLERK_WEBHOOK_SECRETS", "/webhooks/clerk"),
    ] {
        if secrets.is_empty() {
            tracing::warn!("{setting} is not set: {route} answers 404");
        }
    }
    if config.stripe_api_key.is_none() {
        tracing::warn!("STRIPE_API_KEY is not set: a webhook that is lost stays lost");
    }
    let plans = store.list_plans().await?;
    if plans.is_empty() {
        tracing::warn!("the plan catalog is empty, so no price means a plan: run `billsync plans apply FILE`");
    } else if plans.iter().all(|plan| plan.plan_key != config.rules.unmapped_plan) {
        tracing::warn!("BILLSYNC_UNMAPPED_PLAN names a plan that the catalog does not have");
    }
    Ok(())
}
