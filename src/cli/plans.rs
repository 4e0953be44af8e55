//! `billsync plans apply|list`: the plan catalog.

pub mod catalog_file;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::output::{complain, print, print_json, table};
use crate::cli::plans::catalog_file::has_free_plan;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::billing::plan::Plan;
use crate::ingest::transaction::reproject_because;
use crate::store::{PlanChange, Store};

/// Few enough that their locks are held briefly.
const USERS_A_TRANSACTION: i64 = 100;

/// The plan catalog: what a price means, and which limits come with it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync plans list\n  billsync plans apply fixtures/plans.toml")]
pub struct PlansCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add and update the plans of a TOML file, then work out the rows of all users anew
    #[command(after_help = "Example:\n  billsync plans apply plans.toml\n\n\
        fixtures/plans.toml is a model. Plans that the file does not name stay as they are.")]
    Apply {
        /// The TOML file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the plans
    #[command(after_help = "Example:\n  billsync plans list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl PlansCommand {
    /// Does what is asked.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        match &self.action {
            Action::Apply { file, json } => {
                let shown = file.display().to_string();
                let text = std::fs::read_to_string(file).with_context(|| shown.clone())?;
                let plans = catalog_file::parse(&text).context(shown)?;
                let database = Database::open(config, Schema::Expect).await?;
                let applied = apply(config, &database, &plans, *json).await;
                database.close_after(applied).await?;
            }
            Action::List { json } => {
                let database = Database::open(config, Schema::Expect).await?;
                let listed = list(&database, *json).await;
                database.close_after(listed).await?;
            }
        }
        Ok(Exit::Success)
    }
}

async fn apply(config: &Config, database: &Database, plans: &[Plan], json: bool) -> anyhow::Result<()> {
    let changes = database.store.apply_plans(plans).await?;
    let users = reproject_all(config, &database.store).await?;
    if json {
        let shown: Vec<_> = changes.iter().map(|c| json!({ "plan_key": c.plan_key, "change": verb(c) })).collect();
        print_json(&json!({ "plans": shown, "users_changed": users }))?;
    } else {
        for change in &changes {
            print(&format!("{} {}", verb(change), change.plan_key))?;
        }
        let unchanged = plans.len().saturating_sub(changes.len());
        print(&format!("{} plans changed, {unchanged} were the same; the rows of {users} users changed.", changes.len()))?;
    }
    let catalog = database.store.list_plans().await?;
    if !has_free_plan(&catalog) {
        complain("warning: the catalog has no plan `free`, the one that everybody has who has no other");
    }
    Ok(())
}

/// Works out everybody's rows anew; returns how many users' rows changed.
pub async fn reproject_all(config: &Config, store: &Store) -> anyhow::Result<usize> {
    let mut changed = 0;
    let mut after = String::new();
    loop {
        let ids = store.list_clerk_user_ids(&after, USERS_A_TRANSACTION).await?;
        let Some(last) = ids.last() else { return Ok(changed) };
        after.clone_from(last);
        let reprojected = reproject_because("plans.apply", store, &[], &ids, &config.rules, &Clock::System).await;
        changed += reprojected.context("re-projecting users")?;
    }
}

fn verb(change: &PlanChange) -> &'static str {
    if change.inserted { "added" } else { "updated" }
}

async fn list(database: &Database, json: bool) -> anyhow::Result<()> {
    let plans = database.store.list_plans().await?;
    if json {
        let shown: Vec<_> = plans.iter().map(plan_json).collect();
        return print_json(&shown);
    }
    if plans.is_empty() {
        return print("The plan catalog is empty: `billsync plans apply FILE` fills it.");
    }
    let mut table = table(&["plan", "name", "campaigns", "creators", "monthly", "yearly", "price ids, product, Clerk slug"]);
    for plan in &plans {
        let key = if plan.is_active { plan.plan_key.clone() } else { format!("{} (inactive)", plan.plan_key) };
        let ids = [&plan.stripe_price_id_monthly, &plan.stripe_price_id_yearly, &plan.stripe_product_id, &plan.clerk_plan_slug];
        table.add_row([
            key,
            plan.plan_name.clone(),
            limit(plan.campaigns_limit),
            limit(plan.creators_limit),
            plan.price_monthly.clone().unwrap_or_default(),
            plan.price_yearly.clone().unwrap_or_default(),
            ids.into_iter().flatten().cloned().collect::<Vec<String>>().join("\n"),
        ]);
    }
    print(&table.to_string())
}

/// A limit for people.
pub fn limit(limit: i32) -> String {
    if limit == -1 { "unlimited".to_owned() } else { limit.to_string() }
}

fn plan_json(plan: &Plan) -> serde_json::Value {
    json!({
        "plan_key": plan.plan_key,
        "plan_name": plan.plan_name,
        "campaigns_limit": plan.campaigns_limit,
        "creators_limit": plan.creators_limit,
        "features": plan.features,
        "price_monthly": plan.price_monthly,
        "price_yearly": plan.price_yearly,
        "stripe_price_id_monthly": plan.stripe_price_id_monthly,
        "stripe_price_id_yearly": plan.stripe_price_id_yearly,
        "stripe_product_id": plan.stripe_product_id,
        "clerk_plan_slug": plan.clerk_plan_slug,
        "is_active": plan.is_active,
        "display_order": plan.display_order,
    })
}
