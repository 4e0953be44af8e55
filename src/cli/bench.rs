//! `billsync bench`: what a running server takes in, and what the API's queries cost on a large data set.

mod ingest;
mod queries;

use clap::{Args, Subcommand};

use crate::cli::Exit;
use crate::config::Config;

/// Measure a running server, or the API's queries on a large data set
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync bench ingest --to http://127.0.0.1:8787\n  billsync bench queries --users 1000")]
pub struct BenchCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Ingest(ingest::IngestCommand),
    Queries(queries::QueriesCommand),
}

impl BenchCommand {
    /// Measures, and says whether that is within the budget.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        match &self.what {
            What::Ingest(command) => command.run(config).await,
            What::Queries(command) => command.run(config).await,
        }
    }
}
