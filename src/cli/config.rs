//! `billsync config`: the settings in force and where each comes from.

use clap::Args;

use crate::cli::Exit;
use crate::cli::output::{complain, print, print_json, table};
use crate::config::Config;

/// Show the settings in force and where each comes from; secrets are redacted
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync config\n  billsync config --config billsync.toml --json")]
pub struct ConfigCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    /// Prints every setting.
    pub fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        for warning in &config.warnings {
            complain(&format!("warning: {warning}"));
        }
        if self.json {
            print_json(&config.report)?;
        } else {
            let mut table = table(&["setting", "value", "from"]);
            for line in &config.report {
                table.add_row([line.name, &line.value, &line.source]);
            }
            print(&table.to_string())?;
        }
        Ok(Exit::Success)
    }
}
