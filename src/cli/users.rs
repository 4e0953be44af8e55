//! `billsync users …`: what an operator does about single users. One file per action.

mod delete;
mod ensure;
mod link;
mod list;

use clap::{Args, Subcommand};

use crate::clerk_api::{ClerkApi, DEFAULT_BASE, Options};
use crate::cli::Exit;
use crate::cli::database::{Database, Schema};
use crate::cli::failure::WrongUse;
use crate::cli::users::delete::DeleteArgs;
use crate::cli::users::ensure::EnsureArgs;
use crate::cli::users::link::{LinkArgs, UnlinkArgs};
use crate::cli::users::list::ListArgs;
use crate::clock::Clock;
use crate::config::Config;

/// Users: list them, create missing ones from Clerk, say whose a customer is, erase a person
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  billsync users list --status past_due\n  billsync users ensure user_2abc\n  billsync users ensure --all\n  \
    billsync users link --user user_2abc --customer cus_123\n  billsync users delete user_2abc"
)]
pub struct UsersCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(ListArgs),
    Ensure(EnsureArgs),
    Link(LinkArgs),
    Unlink(UnlinkArgs),
    Delete(DeleteArgs),
}

impl UsersCommand {
    /// Does what is asked.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let database = Database::open(config, Schema::Expect).await?;
        let done = match &self.action {
            Action::List(args) => args.run(&database.store).await,
            Action::Ensure(args) => args.run(config, &database.store).await,
            Action::Link(args) => args.run(config, &database.store).await,
            Action::Unlink(args) => args.run(config, &database.store).await,
            Action::Delete(args) => args.run(config, &database.store).await,
        };
        database.close_after(done).await
    }
}

/// A client of Clerk's API by the settings.
pub fn clerk_api(config: &Config) -> anyhow::Result<ClerkApi> {
    let key = config.clerk_secret_key.clone();
    let unset = || WrongUse("CLERK_SECRET_KEY is not set: take the secret key from Clerk's Dashboard under API keys".to_owned());
    let key = key.ok_or_else(unset)?;
    let base = config.clerk_api_base.as_deref().unwrap_or(DEFAULT_BASE);
    Ok(ClerkApi::new(key, base, Options::default(), Clock::System)?)
}
