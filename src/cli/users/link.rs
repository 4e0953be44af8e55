//! `billsync users link` and `unlink`: an operator's word on whose a Stripe customer is.

use anyhow::ensure;
use clap::{ArgGroup, Args};
use serde_json::json;

use crate::cli::Exit;
use crate::cli::arguments::reason;
use crate::cli::output::{complain, print, print_json};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::billing::stored::LinkedBy;
use crate::ingest::transaction::{OperatorChange, OperatorLinked, OperatorWord, link_by_operator};
use crate::store::Store;

/// Say whose a Stripe customer is, or that it is nobody's
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync users link --user user_2abc --customer cus_123 --reason \"ticket 7\"\n  \
    billsync users link --customer cus_123 --nobody\n\n\
    An operator's word is stronger than any other evidence and holds until `billsync users unlink`. The rows of whoever loses\n\
    and of whoever gains the customer change in the same transaction; `billsync inspect user` shows the link and the reason.")]
#[command(group = ArgGroup::new("whose").required(true).args(["user", "nobody"]))]
pub struct LinkArgs {
    /// The Stripe customer
    #[arg(long, value_name = "CUSTOMER_ID", value_parser = customer_id)]
    customer: String,
    /// The Clerk user whose it is, who need not be known yet
    #[arg(long, value_name = "CLERK_ID", value_parser = clerk_id)]
    user: Option<String>,
    /// It is nobody's, whatever anything else says
    #[arg(long)]
    nobody: bool,
    /// Why, for whoever reads the ledger
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Take back what an operator said of a customer: the other evidence decides again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  billsync users unlink --customer cus_123")]
pub struct UnlinkArgs {
    /// The Stripe customer
    #[arg(long, value_name = "CUSTOMER_ID", value_parser = customer_id)]
    customer: String,
    /// Why, for whoever reads the ledger
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl LinkArgs {
    /// Links.
    pub async fn run(&self, config: &Config, store: &Store) -> anyhow::Result<Exit> {
        let word = self.user.clone().map_or(OperatorWord::Nobody, OperatorWord::BelongsTo);
        let change = OperatorChange { customer_id: self.customer.clone(), word, reason: self.reason.clone() };
        apply(&change, config, store, self.json).await
    }
}

impl UnlinkArgs {
    /// Unlinks.
    pub async fn run(&self, config: &Config, store: &Store) -> anyhow::Result<Exit> {
        let (customer_id, reason) = (self.customer.clone(), self.reason.clone());
        apply(&OperatorChange { customer_id, word: OperatorWord::Nothing, reason }, config, store, self.json).await
    }
}

async fn apply(change: &OperatorChange, config: &Config, store: &Store, json: bool) -> anyhow::Result<Exit> {
    let linked = link_by_operator(store, change, &config.rules, &Clock::System).await?;
    ensure!(!linked.refused, "that user was erased: nothing is kept of them any more, and nothing can be linked to them");
    if json {
        print_json(&json!({
            "customer_id": change.customer_id,
            "changed": linked.changed,
            "before": linked.before,
            "after": linked.after,
            "linked_by": linked.linked_by.map(LinkedBy::as_str),
            "users_changed": linked.users_changed,
        }))?;
    } else {
        print(&sentence(change, &linked))?;
    }
    if !linked.customer_is_known {
        complain(&format!("no event has named {} yet: the link holds as soon as one does", change.customer_id));
    }
    if let Some(user) = linked.after.filter(|_| !linked.user_is_known) {
        complain(&format!("{user} is not known yet: `billsync users ensure {user}` reads it from Clerk"));
    }
    Ok(Exit::Success)
}

fn sentence(change: &OperatorChange, linked: &OperatorLinked) -> String {
    let customer = &change.customer_id;
    let whose = match (&linked.after, linked.linked_by) {
        (Some(user), Some(rank)) => format!("belongs to {user} by {}", rank.as_str()),
        (Some(user), None) => format!("belongs to {user}"),
        (None, Some(_)) => "is nobody's, by operator".to_owned(),
        (None, None) => "is nobody's: there is no evidence".to_owned(),
    };
    if !linked.changed {
        return format!("{customer} {whose}, as before");
    }
    let before = linked.before.as_ref().filter(|before| Some(*before) != linked.after.as_ref());
    let before = before.map(|before| format!("; it was {before}'s")).unwrap_or_default();
    format!("{customer} {whose}{before}; rows of {} users changed", linked.users_changed)
}

/// Clerk's user ids begin with `user_`, which is what tells them from Stripe's.
pub fn clerk_id(text: &str) -> Result<String, String> {
    if text.starts_with("user_") && is_id(text) { Ok(text.to_owned()) } else { Err("has to be a Clerk id, user_…".into()) }
}

fn customer_id(text: &str) -> Result<String, String> {
    if !text.starts_with("user_") && is_id(text) {
        Ok(text.to_owned())
    } else {
        Err("has to be a Stripe customer id, cus_…".into())
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
