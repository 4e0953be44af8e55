//! `billsync bench ingest`: how many signed events a second a running server takes, and how long each answer takes.

mod events;
mod load;
mod report;

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::cli::Exit;
use crate::cli::arguments::positive;
use crate::cli::bench::ingest::events::Mix;
use crate::cli::bench::ingest::load::{Extent, Load};
use crate::cli::bench::ingest::report::{Budget, Report};
use crate::cli::deliver::{Answer, Courier};
use crate::cli::demo::deliver::new_run;
use crate::cli::demo::secrets;
use crate::cli::failure::WrongUse;
use crate::cli::output::{complain, print, print_json};
use crate::cli::server_address::ServerAddress;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Secret};
use crate::http::end_signals::EndSignals;

/// How many signed events a running server takes, and how fast it answers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync bench ingest --to http://127.0.0.1:8787\n  \
    billsync bench ingest --to http://127.0.0.1:8787 --users 50 --count 500 --concurrency 16 --json\n  \
    billsync bench ingest --to http://127.0.0.1:8787 --duration 5 --min-rate 200 --max-p99 500\n\n\
    It writes made-up users and events of theirs into the server's database, where they stay: users user_bench_RUN_1, …,\n\
    customers cus_bench_RUN_1, …, events evt_bench_RUN_…, all in test mode. So it asks for --yes when the server is not on\n\
    this machine. Events are signed with the first of STRIPE_WEBHOOK_SECRETS and CLERK_WEBHOOK_SECRETS, which have to be the\n\
    server's; without them, with those that `billsync demo` keeps in BILLSYNC_HOME. Of a provider without a secret there are\n\
    no events.\n\n\
    First every user, customer, subscription and card is made, which is not measured. Then subscriptions are canceled and\n\
    resumed, and invoices paid, of one user after the other, with so many deliveries on their way at a time and none\n\
    repeated.\n\n\
    Exit code 3 when it was slower than --min-rate or --max-p99 allow, 1 when an event was not taken.")]
pub struct IngestCommand {
    /// The server: its address, with or without /webhooks/stripe
    #[arg(long, value_name = "URL", value_parser = ServerAddress::parse)]
    to: ServerAddress,
    /// Deliveries on their way at a time
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_concurrency)]
    concurrency: NonZeroUsize,
    /// How many seconds are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10, conflicts_with = "count",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// How many events are measured, however long it takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: Option<u64>,
    /// How many users the events are of
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The least events a second that are enough
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    min_rate: Option<f64>,
    /// The most milliseconds that 99 of 100 answers may take
    #[arg(long, value_name = "MS", value_parser = positive)]
    max_p99: Option<f64>,
    /// Write made-up users into the database of a server that is not on this machine
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// As many sockets as an ordinary limit of open files allows.
fn parse_concurrency(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= 900);
    number.ok_or_else(|| "has to be a whole number from 1 to 900".to_owned())
}

impl IngestCommand {
    /// Makes the users, measures, and judges.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        self.ask_for_consent()?;
        let (stripe, clerk) = find_secrets(config)?;
        let mix = Mix::new(&new_run(), Clock::System.now(), stripe.is_some(), clerk.is_some())?;
        let courier = Courier::new(&self.to, stripe, clerk, Clock::System)?;
        complain(&format!(
            "writing {} made-up users, user_bench_{}_1 and on, and events of theirs into the database of {}",
            self.users,
            mix.run(),
            courier.server()
        ));
        try_first(&courier, &mix).await?;

        let load = Load::new(courier, mix, self.users, self.concurrency.get());
        let stop = load.stop();
        let listening = tokio::spawn(async move {
            let name = signals.next().await;
            stop.stop(format!("{name}: ended early"));
        });
        let warm_up = load.make_users().await?;
        let extent = match self.count {
            Some(count) => Extent::Events(count),
            None => Extent::Time(Duration::from_secs(self.duration)),
        };
        let measured = load.measure(extent).await?;
        listening.abort();
        let budget = Budget { min_rate: self.min_rate, max_p99_milliseconds: self.max_p99 };
        let report = Report::new(&load, &warm_up, &measured, budget);
        if self.json {
            print_json(&report)?
        } else {
            print(&report.to_text())?
        }
        report.advice().iter().for_each(|line| complain(line));
        Ok(report.exit())
    }

    fn ask_for_consent(&self) -> Result<(), WrongUse> {
        if self.to.is_local() || self.yes {
            return Ok(());
        }
        Err(WrongUse(format!(
            "{} is not on this machine: add --yes to write {} made-up users and their events into its database, where they stay",
            self.to, self.users
        )))
    }
}

/// An event of each provider, before there are thousands: a mistake in address or secret is told at once.
async fn try_first(courier: &Courier, mix: &Mix) -> anyhow::Result<()> {
    for step in mix.first_of_each_provider() {
        let answer = courier.deliver(&mix.webhook(1, step)).await;
        let answer = answer
            .with_context(|| format!("{} does not answer: is the server running, and is --to its address?", courier.server()))?;
        refuse_to_go_on(&answer)?;
    }
    Ok(())
}

fn refuse_to_go_on(answer: &Answer) -> anyhow::Result<()> {
    let detail = answer.detail.as_deref().unwrap_or_default();
    match answer.status {
        200 => Ok(()),
        400 => bail!(
            "refused with 400: {detail}. The server has another secret, or its clock differs: give STRIPE_WEBHOOK_SECRETS and \
             CLERK_WEBHOOK_SECRETS the values that the server has"
        ),
        404 => bail!(
            "refused with 404: the server has no secret for that provider, so the route does not exist; or --to is another \
             server's address"
        ),
        503 => bail!("refused with 503: {detail}. The server could not commit: its /readyz and its log say why"),
        status => bail!("refused with {status}: {detail}"),
    }
}

/// The secrets to sign with: the configured ones, else the demo's; at least one.
fn find_secrets(config: &Config) -> Result<(Option<Secret>, Option<Secret>), ConfigError> {
    let (stripe, clerk) = (config.stripe_webhook_secrets.first().cloned(), config.clerk_webhook_secrets.first().cloned());
    if stripe.is_some() || clerk.is_some() {
        return Ok((stripe, clerk));
    }
    let (stripe, clerk) = secrets::find(&config.home).unzip();
    if stripe.is_none() {
        let needed = "is needed to sign events; give it the value that the server has";
        let problems = ["STRIPE_WEBHOOK_SECRETS", "CLERK_WEBHOOK_SECRETS"].map(|setting| format!("{setting}: {needed}"));
        return Err(ConfigError { problems: problems.into() });
    }
    Ok((stripe, clerk))
}
