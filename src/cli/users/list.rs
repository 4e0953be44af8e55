//! `billsync users list`: who there is, page by page, the newest first.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use crate::cli::Exit;
use crate::cli::arguments::instant;
use crate::cli::output::{print, print_json, table, time};
use crate::store::{Store, UserFilter, UserProfile};

/// Parts a cursor: the time, and the id that decides among equals.
const SEPARATOR: char = '~';

/// List users, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync users list --limit 20\n  billsync users list --email ada@example.com\n  \
    billsync users list --status past_due --json\n\n\
    All filters hold together. A page ends with what to pass as --after for the next one, whose cost does not depend on how\n\
    many came before.")]
pub struct ListArgs {
    /// With that address, in any case
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Whom that Stripe customer belongs to
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Option<String>,
    /// Whose customer has that Stripe subscription
    #[arg(long, value_name = "SUBSCRIPTION_ID")]
    subscription: Option<String>,
    /// With that subscription_status: active, past_due, none, …
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// With that current_plan
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Made at that time or later (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    created_from: Option<DateTime<Utc>>,
    /// Made before that time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    created_before: Option<DateTime<Utc>>,
    /// Users of a page
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor)]
    after: Option<(DateTime<Utc>, Uuid)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Lists a page.
    pub async fn run(&self, store: &Store) -> anyhow::Result<Exit> {
        let mut users = store.list_users(&self.filter()).await?;
        let is_last = users.len() <= usize::from(self.limit);
        users.truncate(self.limit.into());
        let next = users.last().filter(|_| !is_last).map(cursor_after);
        if self.json {
            print_json(&json!({"users": users, "next": next}))?;
        } else {
            print(&to_text(&users, next.as_deref()))?;
        }
        Ok(Exit::Success)
    }

    fn filter(&self) -> UserFilter {
        UserFilter {
            email: self.email.clone(),
            stripe_customer_id: self.customer.clone(),
            stripe_subscription_id: self.subscription.clone(),
            subscription_status: self.status.clone(),
            current_plan: self.plan.clone(),
            created_from: self.created_from,
            created_before: self.created_before,
            after: self.after,
            // One more tells whether there is another page.
            limit: i64::from(self.limit) + 1,
            with_plan_features: self.json,
            with_email_schedule: self.json,
        }
    }
}

fn to_text(users: &[UserProfile], next: Option<&str>) -> String {
    if users.is_empty() {
        return "no such user".to_owned();
    }
    let mut table = table(&["user", "email", "name", "plan", "status", "customer", "sync", "since"]);
    for user in users {
        let text = |column: &Option<String>| column.clone().unwrap_or_else(|| "-".to_owned());
        let name = if user.deleted_at.is_some() { "(deleted)".to_owned() } else { text(&user.full_name) };
        table.add_row([
            user.user_id.clone(),
            text(&user.email),
            name,
            text(&user.current_plan),
            user.subscription_status.clone(),
            text(&user.stripe_customer_id),
            text(&user.billing_sync_status),
            time(Some(user.created_at)),
        ]);
    }
    let more = next.map(|next| format!("\n\nThere are more: --after {next}")).unwrap_or_default();
    format!("{table}{more}")
}

fn cursor_after(user: &UserProfile) -> String {
    format!("{}{SEPARATOR}{}", user.created_at.to_rfc3339_opts(SecondsFormat::Micros, true), user.id)
}

fn parse_cursor(text: &str) -> Result<(DateTime<Utc>, Uuid), String> {
    let read = || {
        let (created_at, id) = text.split_once(SEPARATOR)?;
        Some((created_at.parse().ok()?, id.parse().ok()?))
    };
    read().ok_or_else(|| "it is not what a page ended with".to_owned())
}
