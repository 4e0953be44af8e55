//! `billsync doctor`: looks at everything that can be wrong with a deployment, and tells how to mend it. Nothing is changed,
//! no secret is printed, and what cannot be looked at is a finding among the others.

mod database_checks;
mod event_checks;
mod finding;
mod plan_checks;
mod provider_checks;
mod rights_checks;
mod schedule_checks;
mod schema_checks;
mod setting_checks;
mod trace_checks;

use clap::Args;

use crate::cli::Exit;
use crate::cli::database::Database;
use crate::cli::doctor::finding::{Findings, Level};
use crate::cli::output::{print, print_json};
use crate::config::Config;
use crate::domain::billing::plan::Plan;

/// Check settings, database, schema, secrets, keys, plans, schedule and backlog; each finding with its fix
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync doctor\n  \
    billsync doctor --problems\n  \
    billsync doctor --offline --json\n\n\
    Each finding has a level (ok, warning, error) and, unless it is ok, the fix to paste. Nothing is changed, and no\n\
    secret is printed. It goes on where a setting is wrong or the database is away, and tells all that it can.\n\
    Exit code 1 when there is an error; warnings alone are 0.")]
pub struct DoctorCommand {
    /// Do not ask Stripe and Clerk whether they accept the keys, nor the collector whether it takes traces
    #[arg(long)]
    offline: bool,
    /// Show only what is not as it should be
    #[arg(long)]
    problems: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DoctorCommand {
    /// Looks at everything and prints what was found. `problems` are those of the settings, which are in force without what
    /// cannot be read.
    pub async fn run(&self, config: &Config, problems: &[String]) -> anyhow::Result<Exit> {
        let mut findings = Findings::default();
        setting_checks::check(config, problems, &mut findings);
        let mut plans = Vec::new();
        if let Some(database) = database_checks::open(config, &mut findings).await {
            plans = check_database(config, &database, &mut findings).await;
            if let Err(error) = database.close().await {
                findings.warn("database", format!("closing it: {error:#}"), "see the log of the embedded database");
            }
        }
        if self.offline {
            findings.ok("stripe", "not asked, because of --offline");
            findings.ok("clerk", "not asked, because of --offline");
            findings.ok("traces", "the collector is not asked, because of --offline");
        } else {
            provider_checks::check(config, &plans, &mut findings).await;
            trace_checks::check(config, &mut findings).await;
        }
        let least = if self.problems { Level::Warning } else { Level::Ok };
        if self.json {
            print_json(&findings.to_json(least))?
        } else {
            print(&findings.to_text(least))?
        }
        Ok(if findings.count(Level::Error) > 0 { Exit::Failure } else { Exit::Success })
    }
}

/// Returns the plan catalog, as far as it could be read.
async fn check_database(config: &Config, database: &Database, findings: &mut Findings) -> Vec<Plan> {
    let store = &database.store;
    database_checks::check(config, store, findings).await;
    rights_checks::check(store, findings).await;
    if schema_checks::check(store, findings).await == schema_checks::Tables::NotThere {
        return Vec::new();
    }
    event_checks::check_deliveries(config, store, findings).await;
    let plans = plan_checks::check(config, store, findings).await;
    schedule_checks::check(config, store, findings).await;
    event_checks::check_backlog(config, store, findings).await;
    plans
}
