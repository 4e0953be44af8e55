//! `billsync demo`: what billsync does, shown on invented people. A real server on a real (embedded) database; only the
//! senders are ours.

pub mod deliver;
pub mod secrets;
pub mod stories;
mod template;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::demo::deliver::{Delivered, Mishaps, Sender};
use crate::cli::failure::WrongUse;
use crate::cli::output::{print, print_json};
use crate::cli::plans::{catalog_file, reproject_all};
use crate::cli::profile_table::{profile_table, read_profiles};
use crate::cli::serve;
use crate::clock::Clock;
use crate::config::{Config, Pooler, Secret};
use crate::http::application::Application;
use crate::http::end_signals::EndSignals;
use crate::store::Profile;

/// Show it working: deliver signed webhooks of six invented people, print their rows, go on serving
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync demo\n  \
    billsync demo --exit\n\n\
    It works on the embedded database under BILLSYNC_HOME, never on DATABASE_URL. Every run makes users of its own.")]
pub struct DemoCommand {
    /// End instead of going on serving
    #[arg(long)]
    exit: bool,
    /// Print JSON; ends too
    #[arg(long)]
    json: bool,
}

/// What a run showed.
#[derive(Serialize)]
struct Shown<'a> {
    delivered: &'a [Delivered],
    mishaps: &'a Mishaps,
    profiles: &'a [Profile],
}

impl DemoCommand {
    /// Runs the demo, and ends in order however far it came.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        if config.report.iter().any(|line| line.name == "DATABASE_URL" && line.source.starts_with("flag")) {
            let why =
                "demo works on the embedded database alone: invented users have no business in a database that somebody uses";
            bail!(WrongUse(why.to_owned()));
        }
        let mut config = Config { database_url: None, migration_database_url: None, pooler: Pooler::None, ..config.clone() };
        let secrets_file = secrets::complete(&mut config)?;
        let mut signals = EndSignals::listen()?;
        let database = tokio::select! {
            opened = Database::open(&config, Schema::Migrate) => opened?,
            _ = signals.next() => return Ok(Exit::Success),
        };
        let shown = tokio::select! {
            shown = self.show(&config, &database, secrets_file, signals) => shown,
            lost = database.lost() => Err(lost),
        };
        database.close_after(shown).await?;
        Ok(Exit::Success)
    }

    async fn show(
        &self,
        config: &Config,
        database: &Database,
        secrets_file: Option<PathBuf>,
        mut signals: EndSignals,
    ) -> anyhow::Result<()> {
        let filled = fill_empty_catalog(config, database).await?;
        let application = serve::start(config, &free_address(config)?, &database.store)?;
        let demonstrated = tokio::select! {
            demonstrated = self.demonstrate(config, database, &application, filled) => demonstrated.map(Some),
            _ = signals.next() => Ok(None),
        };
        match demonstrated {
            Ok(Some(address)) if !self.exit && !self.json => {
                print(&what_to_try(config, &address, secrets_file))?;
                Ok(application.run_until(&mut signals).await?)
            }
            other => {
                application.stop().await?;
                other.map(|_| ())
            }
        }
    }

    /// Delivers and prints; returns the server's address.
    async fn demonstrate(
        &self,
        config: &Config,
        database: &Database,
        application: &Application,
        filled: Option<usize>,
    ) -> anyhow::Result<String> {
        let address = application.addresses().first().map(|address| format!("http://{address}")).context("no address")?;
        if !self.json {
            print(&introduction(database, &address, filled))?;
        }
        let secret = |secrets: &[Secret]| secrets.first().cloned().context("no signing secret");
        let (stripe, clerk) = (secret(&config.stripe_webhook_secrets)?, secret(&config.clerk_webhook_secrets)?);
        let sender = Sender::new(&address, stripe, clerk, Clock::System)?;
        let delivered = sender.deliver_stories().await?;
        let mishaps = sender.deliver_mishaps().await?;
        let ids: Vec<&str> = delivered.iter().map(|one| one.user_id.as_str()).collect();
        let profiles = read_profiles(&database.store, &ids).await?;
        if self.json {
            print_json(&Shown { delivered: &delivered, mishaps: &mishaps, profiles: &profiles })?;
        } else {
            print(&narrate(&delivered, &mishaps))?;
            print(&format!("\nThe rows that came out:\n\n{}", profile_table(&profiles)))?;
            print(&lessons(&delivered))?;
        }
        Ok(address)
    }
}

/// Puts the built-in plans into a catalog that has none; returns how many.
async fn fill_empty_catalog(config: &Config, database: &Database) -> anyhow::Result<Option<usize>> {
    if !database.store.list_plans().await?.is_empty() {
        return Ok(None);
    }
    let plans = catalog_file::parse(catalog_file::BUILT_IN)?;
    database.store.apply_plans(&plans).await?;
    reproject_all(config, &database.store).await?;
    Ok(Some(plans.len()))
}

/// The configured address, or any free port where that one is taken: two demos at a time are no mistake.
fn free_address(config: &Config) -> anyhow::Result<String> {
    match TcpListener::bind(&config.listen) {
        Ok(_) => Ok(config.listen.clone()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let host = config.listen.rsplit_once(':').map_or(config.listen.as_str(), |(host, _)| host);
            Ok(format!("{host}:0"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot serve on {}", config.listen)),
    }
}

fn introduction(database: &Database, address: &str, filled: Option<usize>) -> String {
    let catalog = match filled {
        Some(count) => format!("was empty, filled with the {count} plans of fixtures/plans.toml"),
        None => "as it is".to_owned(),
    };
    format!("database  {}\nserver    {address}\nplans     {catalog}\n", database.description)
}

fn narrate(delivered: &[Delivered], mishaps: &Mishaps) -> String {
    let count: usize = delivered.iter().flat_map(|one| one.answers.values()).sum();
    let mut text = format!("\nDelivered {count} signed webhooks of {} people:\n\n", delivered.len());
    for one in delivered {
        text.push_str(&format!("  {:<6}{:<18}{}\n", one.name, one.manner, counts(&one.answers)));
    }
    text.push_str(&format!("  and the last one of everybody again: {}\n", counts(&mishaps.sent_again)));
    text.push_str(&format!("  and one with a forged signature: {}\n", counts(&mishaps.forged)));
    text.push_str(
        "\nUnlinked: kept, but nobody was known to own its customer yet. The webhook that makes the link applies them all.\n",
    );
    text
}

fn counts(answers: &std::collections::BTreeMap<String, usize>) -> String {
    answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect::<Vec<String>>().join(", ")
}

fn lessons(delivered: &[Delivered]) -> String {
    let lines = delivered.iter().map(|one| format!("  {:<6}{}\n", one.name, one.lesson));
    format!("\n{}", lines.collect::<String>())
}

fn what_to_try(config: &Config, address: &str, secrets_file: Option<PathBuf>) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "billsync".to_owned());
    let home = config.home.display().to_string();
    let home = if home == "./.billsync" { String::new() } else { format!(" --home {home}") };
    let mut text = format!(
        "\nServing on {address} until Ctrl-C. From another terminal:\n\n  \
         {program} inspect user cleo@example.com{home}\n  \
         {program} inspect user finn@example.com --json{home}\n  \
         {program} plans list{home}\n  \
         curl {address}/readyz\n  \
         curl {address}/metrics\n"
    );
    if let Some(path) = secrets_file {
        text.push_str(&format!("\nTo send webhooks of your own to it, sign them with the secrets in {}.\n", path.display()));
    }
    text
}
