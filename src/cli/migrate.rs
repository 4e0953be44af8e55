//! `billsync migrate run|status|baseline|new`: the schema.

mod baseline;
mod new;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{print, print_json, table, time};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{MigrationState, MigrationStatus};

/// Bring the schema up to date, tell how far it is, or adopt an existing database
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync migrate status\n  billsync migrate run\n  \
    billsync migrate baseline --dry-run    # ends with 3 while an adopted database would differ")]
pub struct MigrateCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the migrations that have not run
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://… billsync migrate run\n\n\
        Several processes may do so at once: one migrates, the others wait.")]
    Run {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the migrations; exit code 3 while one has not run
    #[command(after_help = "Example:\n  billsync migrate status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Baseline(baseline::BaselineArgs),
    New(new::NewArgs),
}

#[derive(Serialize)]
struct Line<'a> {
    version: i64,
    description: &'a str,
    state: &'static str,
    applied_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl MigrateCommand {
    /// Does what is asked; a database is opened without touching its schema.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let (json, is_run) = match &self.action {
            Action::Baseline(arguments) => return arguments.run(config).await,
            Action::New(arguments) => return arguments.run(),
            Action::Run { json } => (*json, true),
            Action::Status { json } => (*json, false),
        };
        let database = Database::open(config, Schema::Ignore).await?;
        let done = if is_run { migrate(&database, json).await } else { show_status(&database, json).await };
        database.close_after(done).await
    }
}

async fn migrate(database: &Database, json: bool) -> anyhow::Result<Exit> {
    let ran = database.store.migrate(Clock::System.now()).await?;
    if json {
        print_json(&serde_json::json!({ "ran": ran }))?;
    } else if ran.is_empty() {
        print("The schema is up to date.")?;
    } else {
        let versions: Vec<String> = ran.iter().map(i64::to_string).collect();
        print(&format!("Ran {} migrations: {}.", ran.len(), versions.join(", ")))?;
    }
    Ok(Exit::Success)
}

async fn show_status(database: &Database, json: bool) -> anyhow::Result<Exit> {
    let status = database.store.migration_status().await?;
    let lines: Vec<Line<'_>> = status.iter().map(line).collect();
    if json {
        print_json(&lines)?;
    } else {
        let mut table = table(&["version", "migration", "state", "applied at"]);
        for line in &lines {
            table.add_row([&line.version.to_string(), line.description, line.state, &time(line.applied_at)]);
        }
        print(&table.to_string())?;
    }
    let differs = |migration: &MigrationStatus| matches!(migration.state, MigrationState::Pending | MigrationState::Changed(_));
    Ok(if status.iter().any(differs) { Exit::Difference } else { Exit::Success })
}

fn line(migration: &MigrationStatus) -> Line<'_> {
    let (state, applied_at) = match migration.state {
        MigrationState::Pending => ("pending", None),
        MigrationState::Applied(at) => ("applied", Some(at)),
        MigrationState::Changed(at) => ("applied in another form", Some(at)),
        MigrationState::Unknown(at) => ("of a newer version", Some(at)),
    };
    Line { version: migration.version, description: &migration.description, state, applied_at }
}
