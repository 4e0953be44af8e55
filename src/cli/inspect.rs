//! `billsync inspect user|event|db`: what is stored, and why.

mod database_report;
mod event_report;
mod index_lines;
mod index_repair;
mod past_report;
mod user_report;

pub use self::index_lines::{fix_of_index, fix_of_leftover};
pub use self::user_report::effect_lines;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use crate::cli::Exit;
use crate::cli::arguments::instant;
use crate::cli::database::{Database, Schema};
use crate::cli::inspect::database_report::DatabaseReport;
use crate::cli::inspect::past_report::PastReport;
use crate::cli::inspect::user_report::UserReport;
use crate::cli::output::{complain, print, print_json};
use crate::config::Config;
use crate::store::{Store, UserKey};

/// What is stored, and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync inspect user ada@example.com\n  \
    billsync inspect event evt_1RkT0q\n  \
    billsync inspect db")]
pub struct InspectCommand {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    User(UserArgs),
    Event(EventArgs),
    Db(DbArgs),
}

/// A user's rows, the facts behind them, and what each event changed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync inspect user ada@example.com\n  \
    billsync inspect user --customer cus_Q1 --limit 200\n  \
    billsync inspect user --user-id user_2fK --json\n  \
    billsync inspect user user_2fK --at 2026-11-01T00:00:00Z\n\n\
    WHO is an address when it has an @, a Stripe customer when it begins with cus_, else a Clerk user id.")]
struct UserArgs {
    /// An address, a Clerk user id, or a Stripe customer id
    #[arg(value_name = "WHO", required_unless_present_any = ["email", "user_id", "customer"])]
    who: Option<String>,
    /// The address, in any case of letters
    #[arg(long, conflicts_with_all = ["who", "user_id", "customer"])]
    email: Option<String>,
    /// The Clerk user id
    #[arg(long, conflicts_with_all = ["who", "customer"])]
    user_id: Option<String>,
    /// The Stripe customer id
    #[arg(long, conflicts_with = "who")]
    customer: Option<String>,
    /// Most events and facts to show
    #[arg(long, default_value_t = 100, conflicts_with = "at", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// The projected columns as they were at that time (RFC 3339), by when events were received
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<DateTime<Utc>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One event: outcome, reason, what it changed, payload
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  billsync inspect event evt_1RkT0q --json")]
struct EventArgs {
    /// Stripe's event id, or the svix-id of Clerk's
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The database: sizes, missing and unused indexes, row-level security, rows that lack others, slowest statements
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync inspect db\n  \
    billsync inspect db --json\n  \
    billsync inspect db --fix-indexes\n\n\
    Rows of tables above 64 MB are estimated (~). What is an index that should be there, the migrations say.\n\
    --fix-indexes makes what is missing or invalid with CREATE INDEX CONCURRENTLY, beside webhooks. SIGINT or SIGTERM\n\
    ends it; what it was making is made anew by the next run.\n\
    Exit code 1 when a part could not be read, or an index not be made.")]
struct DbArgs {
    /// Make the indexes that are missing or invalid
    #[arg(long)]
    fix_indexes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl InspectCommand {
    /// Prints what is asked for; an unknown user or event is a failure.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Expect).await?;
        let shown = match &self.subject {
            Subject::User(user) => user.show(&database.store).await.map(|()| Exit::Success),
            Subject::Event(event) => event.show(&database.store).await.map(|()| Exit::Success),
            Subject::Db(db) if db.fix_indexes => index_repair::run(config, &database.store, db.json).await,
            Subject::Db(db) => db.show(&database.store).await,
        };
        database.close_after(shown).await
    }
}

impl DbArgs {
    async fn show(&self, store: &Store) -> anyhow::Result<Exit> {
        let report = DatabaseReport::read(store, &store.expected_schema().await?).await;
        if self.json {
            print_json(&report)?
        } else {
            print(&report.to_text())?
        }
        Ok(if report.unreadable.is_empty() { Exit::Success } else { Exit::Failure })
    }
}

impl UserArgs {
    fn key(&self) -> anyhow::Result<UserKey> {
        let given = [
            self.email.clone().map(UserKey::Email),
            self.user_id.clone().map(UserKey::ClerkId),
            self.customer.clone().map(UserKey::Customer),
            self.who.as_deref().map(UserKey::of),
        ];
        given.into_iter().flatten().next().context("nobody is asked for")
    }

    async fn show(&self, store: &Store) -> anyhow::Result<()> {
        let ids = store.find_users(&self.key()?).await?;
        let Some((newest, others)) = ids.split_first() else { bail!("no such user") };
        if !others.is_empty() {
            complain(&format!("{} users match; this is the newest, the others are: {}", ids.len(), others.join(", ")));
        }
        if let Some(at) = self.at {
            let report = PastReport::read(store, newest, at).await?;
            return if self.json { print_json(&report) } else { print(&report.to_text()) };
        }
        let report = UserReport::read(store, newest, self.limit.into()).await?;
        if self.json { print_json(&report) } else { print(&report.to_text()) }
    }
}

impl EventArgs {
    async fn show(&self, store: &Store) -> anyhow::Result<()> {
        let events = store.find_event(&self.id).await?;
        if events.is_empty() {
            bail!("no such event in the ledger");
        }
        if self.json {
            let shown: Vec<_> = events.iter().map(event_report::to_json).collect();
            return print_json(&shown);
        }
        for event in &events {
            print(&event_report::to_text(event))?;
        }
        Ok(())
    }
}
