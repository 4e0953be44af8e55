//! `billsync send`: sign events and deliver them over HTTP as the provider would, to see how a deployment takes them.

mod delivery;
mod freshen;
mod report;
mod selection;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{ArgGroup, Args};

use crate::cli::Exit;
use crate::cli::arguments::{at_least_one, positive};
use crate::cli::deliver::Courier;
use crate::cli::demo::secrets;
use crate::cli::event_files::no_event_in;
use crate::cli::output::{complain, print, print_json};
use crate::cli::send::delivery::{Pace, deliver_all};
use crate::cli::send::report::Summary;
use crate::cli::send::selection::Outgoing;
use crate::cli::server_address::ServerAddress;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Secret};
use crate::domain::event::Provider;

/// Sign events and deliver them over HTTP, as the provider would
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync send --story ada --to http://127.0.0.1:8787\n  \
    billsync send fixtures/journeys/trial_to_paid --to http://127.0.0.1:8787 --shuffle --duplicate 2\n  \
    billsync send events.ndjson --to https://billing.example.com --fresh-ids --fresh-times --rate 50 --concurrency 8 --json\n\n\
    Files and folders are read as by `billsync replay`. What is sent is signed with the first of STRIPE_WEBHOOK_SECRETS and\n\
    CLERK_WEBHOOK_SECRETS, which have to be the server's; without them, with those that `billsync demo` keeps in BILLSYNC_HOME.\n\
    A delivery that gets no answer, 429 or 5xx is repeated at the provider's intervals (5 s, 5 min, 30 min, 2 h, …),\n\
    made shorter by --time-scale. With a concurrency of 1 the events are delivered one after the other.\n\
    Exit code 1 when an event was not taken, or taken as `failed`.")]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["paths", "story"]))]
pub struct SendCommand {
    /// Files or folders
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The server: its address, with or without /webhooks/stripe
    #[arg(long, value_name = "URL", value_parser = ServerAddress::parse)]
    to: ServerAddress,
    /// A built-in story: ada, ben, cleo, dan, eve, finn, or all; may be repeated
    #[arg(long, value_name = "NAME", value_parser = selection::story_name)]
    story: Vec<String>,
    /// Deliver in a random order
    #[arg(long)]
    shuffle: bool,
    /// The random order to repeat
    #[arg(long, value_name = "N", requires = "shuffle")]
    seed: Option<u64>,
    /// Deliver every event that many times more
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_value_t = 0, default_missing_value = "1",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    duplicate: u32,
    /// Most deliveries begun in a second
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Deliveries on their way at a time
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    concurrency: NonZeroUsize,
    /// Give events, users, customers and what is theirs ids that nobody has seen; prices and products keep theirs
    #[arg(long)]
    fresh_ids: bool,
    /// Move all times so that the newest event happened now
    #[arg(long)]
    fresh_times: bool,
    /// Most attempts for an event
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    attempts: NonZeroUsize,
    /// How many seconds of the provider's schedule of repetitions are one second here
    #[arg(long, value_name = "FACTOR", default_value = "10000", value_parser = positive)]
    time_scale: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SendCommand {
    /// Reads everything before anything is sent, so that a mistake in a file leaves nothing half-done.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut outgoing = selection::read(&self.paths, &self.story, Clock::System.now())?;
        ensure!(!outgoing.is_empty(), no_event_in(&self.paths));
        if self.fresh_ids || self.fresh_times {
            freshen::freshen(&mut outgoing, self.fresh_ids, self.fresh_times.then(|| Clock::System.now()))?;
        }
        let (stripe, clerk) = find_secrets(config, &outgoing)?;
        let courier = Courier::new(&self.to, stripe, clerk, Clock::System)?;
        let mut outgoing: Vec<Outgoing> =
            outgoing.into_iter().flat_map(|one| std::iter::repeat_n(one, self.duplicate as usize + 1)).collect();
        if self.shuffle {
            let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
            complain(&format!("shuffled with --seed {seed}"));
            fastrand::Rng::with_seed(seed).shuffle(&mut outgoing);
        }
        let pace = Pace {
            per_second: self.rate,
            concurrency: self.concurrency.get(),
            attempts: self.attempts.get(),
            time_scale: self.time_scale,
        };
        let (deliveries, seconds) = deliver_all(&courier, &outgoing, &pace).await?;
        let summary = Summary::new(&outgoing, &deliveries, seconds);
        if self.json {
            print_json(&summary)?
        } else {
            print(&summary.to_text())?
        }
        if !self.json {
            summary.advice().iter().for_each(|line| complain(line));
        }
        Ok(if summary.is_well() { Exit::Success } else { Exit::Failure })
    }
}

/// The secrets to sign with: the configured ones, else the demo's. An event that nobody could sign is a wrong setting.
fn find_secrets(config: &Config, outgoing: &[Outgoing]) -> Result<(Option<Secret>, Option<Secret>), ConfigError> {
    let (demo_stripe, demo_clerk) = secrets::find(&config.home).unzip();
    let stripe = config.stripe_webhook_secrets.first().cloned().or(demo_stripe);
    let clerk = config.clerk_webhook_secrets.first().cloned().or(demo_clerk);
    let mut problems = Vec::new();
    for (provider, secret, setting) in
        [(Provider::Stripe, &stripe, "STRIPE_WEBHOOK_SECRETS"), (Provider::Clerk, &clerk, "CLERK_WEBHOOK_SECRETS")]
    {
        if secret.is_none() && outgoing.iter().any(|one| one.provider == provider) {
            problems.push(format!("{setting}: is needed to sign the events; give it the value that the server has"));
        }
    }
    if problems.is_empty() { Ok((stripe, clerk)) } else { Err(ConfigError { problems }) }
}
