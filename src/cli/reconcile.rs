//! `billsync reconcile`: compare with Stripe, and correct what differs.

use std::time::Instant;

use anyhow::bail;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{complain, print, print_json, table, time};
use crate::cli::stripe::with_reconciler;
use crate::cli::stripe_progress::StripeProgress;
use crate::config::Config;
use crate::reconcile::{Drift, Mode, Reconciler, Report};
use crate::store::Store;

/// Rows that are shown without --json.
const SHOWN: usize = 200;
/// Characters of a value that are shown without --json.
const VALUE_WIDTH: usize = 60;

/// Compare with Stripe and correct what differs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync reconcile --user user_2abc --dry-run\n  billsync reconcile --all --json\n\n\
    Needs STRIPE_API_KEY; a restricted key that may read is enough. What Stripe says goes the same way as a webhook:\n\
    whichever is newer stays. --all lists everything and reads the payment methods of each customer; customers that live by\n\
    a test clock are left alone. `serve` does the same every hour for the customers of users.\n\
    Exit code 3 when anything differed.")]
#[command(group = ArgGroup::new("who").required(true).args(["user", "all"]))]
pub struct ReconcileCommand {
    /// The customers of one user, by Clerk id; or one customer, by its id (cus_…)
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Every customer, linked or not
    #[arg(long)]
    all: bool,
    /// Show what differs, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ReconcileCommand {
    /// Compares, corrects unless told otherwise, and shows.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Expect).await?;
        let read = async |reconciler: Reconciler| self.read(&database.store, &reconciler).await;
        let done = with_reconciler(config, &database, read).await;
        let report = database.close_after(done).await?;
        self.show(&report)?;
        Ok(match (report.drift.is_empty(), report.problems.is_empty()) {
            (false, _) => Exit::Difference,
            (true, false) => Exit::Failure,
            (true, true) => Exit::Success,
        })
    }

    async fn read(&self, store: &Store, reconciler: &Reconciler) -> anyhow::Result<Report> {
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Apply };
        let Some(user) = &self.user else {
            let bar = StripeProgress::start(Instant::now())?;
            let read = reconciler.reconcile_all(mode, &|progress| bar.note(progress)).await;
            bar.finish();
            return Ok(read?);
        };
        let customers = customers_of(store, user).await?;
        if customers.is_empty() {
            complain(&format!("{user} has no customer at Stripe, as far as is known"));
        }
        Ok(reconciler.reconcile_customers(&customers, mode).await?)
    }

    fn show(&self, report: &Report) -> anyhow::Result<()> {
        for problem in &report.problems {
            complain(problem);
        }
        if self.json {
            let mut shown = serde_json::to_value(report)?;
            shown["dry_run"] = self.dry_run.into();
            return print_json(&shown);
        }
        if !report.drift.is_empty() {
            print(&drift_table(&report.drift))?;
        }
        let count = report.drifted_objects().len();
        let done = if self.dry_run { "Nothing was changed." } else { "They are corrected." };
        let clocks = match report.on_test_clocks {
            0 => String::new(),
            left => format!(" {left} live by a test clock and were left alone."),
        };
        match count {
            0 => print(&format!("{} objects read; none differs.{clocks}", report.objects)),
            count => print(&format!("{} objects read; {count} differ. {done}{clocks}", report.objects)),
        }
    }
}

async fn customers_of(store: &Store, user: &str) -> anyhow::Result<Vec<String>> {
    if user.starts_with("cus_") {
        return Ok(vec![user.to_owned()]);
    }
    if store.find_profile(user).await?.is_none() {
        bail!("there is no user {user}");
    }
    let owners = store.list_owner_ids(user).await?;
    Ok(owners.into_iter().map(|(id, _linked_by)| id).filter(|id| id != user).collect())
}

fn drift_table(drift: &[Drift]) -> String {
    let mut table = table(&["object", "user", "field", "ours", "theirs", "missed event"]);
    for one in drift.iter().take(SHOWN) {
        let missed = one.missed_event.as_ref();
        table.add_row([
            one.object.clone(),
            one.user.clone().or_else(|| one.customer.clone()).unwrap_or_default(),
            one.field.clone(),
            short(&one.ours),
            short(&one.theirs),
            missed.map(|event| format!("{} {} {}", event.id, event.event_type, time(Some(event.created)))).unwrap_or_default(),
        ]);
    }
    let more = drift.len().saturating_sub(SHOWN);
    if more > 0 { format!("{table}\n… and {more} more: --json shows all") } else { table.to_string() }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other if *other == json!(null) => "–".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_WIDTH {
        return text;
    }
    text.chars().take(VALUE_WIDTH).chain(['…']).collect()
}
