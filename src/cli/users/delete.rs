//! `billsync users delete`: erase a person.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::failure::WrongUse;
use crate::cli::output::{complain, print, print_json, table};
use crate::cli::users::link::clerk_id;
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::erasure::erase_user;
use crate::store::{Erasure, Person, Store};

/// Erase a person for good: rows, payloads, objects, effects
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync users delete user_2abc\n  billsync users delete user_2abc --yes --json\n\n\
    Deletes the user's rows and with them the application's rows of that user, the payloads and effects of every event of the\n\
    user and of the user's Stripe customers, and Clerk's objects; reduces Stripe's objects to the billing state (ids, status,\n\
    prices, dates). The ledger keeps that the events came, without the Clerk id. A hash of the id stays, so that no webhook,\n\
    retry, replay, import or API read brings the person back. Nothing is changed at Clerk or Stripe: delete the person there\n\
    too, and cancel what is still running. Running it again is harmless, and completes what was interrupted.")]
pub struct DeleteArgs {
    /// The Clerk user
    #[arg(value_name = "CLERK_ID", value_parser = clerk_id)]
    user: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DeleteArgs {
    /// Asks, and erases.
    pub async fn run(&self, config: &Config, store: &Store) -> anyhow::Result<Exit> {
        if !self.yes && !std::io::stdin().is_terminal() {
            bail!(WrongUse("this cannot be undone: add --yes where nobody can be asked".to_owned()));
        }
        let person = store.find_person(&self.user).await?;
        let erased_before = store.is_erased(&self.user).await?;
        if person.is_unknown() && !erased_before {
            bail!("nothing is known of {}", self.user);
        }
        if !self.yes && !self.confirm(&person)? {
            complain("nothing was changed");
            return Ok(Exit::Failure);
        }
        let erasure = erase_user(store, &self.user, &config.rules, &Clock::System).await?;
        if self.json {
            print_json(&json!({
                "user_id": self.user,
                "erased_before": erased_before,
                "erased": erasure,
                "live_subscriptions": person.live_subscriptions,
            }))?;
        } else {
            print(&to_text(&self.user, &erasure))?;
        }
        if !person.live_subscriptions.is_empty() {
            complain(&format!("still running at Stripe, to be canceled there: {}", person.live_subscriptions.join(", ")));
        }
        Ok(Exit::Success)
    }

    fn confirm(&self, person: &Person) -> anyhow::Result<bool> {
        complain(&format!(
            "{} ({}, {}), customers {}, {} events: erase all of it? This cannot be undone. Type the Clerk id to go on:",
            self.user,
            person.full_name.as_deref().unwrap_or("no name"),
            person.email.as_deref().unwrap_or("no address"),
            if person.customers.is_empty() { "none".to_owned() } else { person.customers.join(", ") },
            person.events,
        ));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        Ok(answer.trim() == self.user)
    }
}

fn to_text(user: &str, erasure: &Erasure) -> String {
    let mut table = table(&["erased", "rows"]);
    for (what, count) in [
        ("the user's rows in each of the five tables", erasure.users),
        ("rows of the application that belonged to the user", erasure.application_rows),
        ("objects of Clerk's, deleted", erasure.objects_deleted),
        ("objects of Stripe's, reduced to the billing state", erasure.objects_reduced),
        ("payloads with their effects, deleted", erasure.payloads_deleted),
        ("rows of the ledger, made anonymous", erasure.ledger_rows_anonymised),
        ("mentions elsewhere, taken out", erasure.mentions_replaced),
    ] {
        table.add_row([what.to_owned(), count.to_string()]);
    }
    let customers = if erasure.customers.is_empty() { "none".to_owned() } else { erasure.customers.join(", ") };
    format!("{user} is erased; Stripe customers: {customers}\n{table}")
}
