//! The command line: what can be asked, and which exit code answers. One file per command; this one only parses and hands over.

mod arguments;
mod backfill;
mod bench;
mod completions;
mod config;
mod database;
mod deliver;
mod demo;
mod doctor;
mod event_files;
mod failure;
mod healthcheck;
mod import;
mod inspect;
mod interruption;
mod latency;
mod man;
mod migrate;
mod openapi;
mod output;
mod plans;
mod profile_table;
mod rebuild;
mod reconcile;
mod replay;
mod reset_usage;
mod schedule;
mod send;
mod serve;
mod server_address;
mod stripe;
mod stripe_progress;
mod users;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, Flags};
use crate::embedded_postgres::guard;
use crate::telemetry::{self, Traces};

/// How a command ended. Errors end as [`Exit::Failure`], a wrong command line or setting as [`Exit::Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    /// The command compares, and found a difference.
    Difference = 3,
}

/// Keeps each user's billing rows in Postgres equal to what Stripe and Clerk say.
#[derive(Debug, Parser)]
#[command(name = "billsync", version, about, max_term_width = 110)]
#[command(after_help = "Examples:\n  billsync demo\n  billsync serve\n  billsync doctor\n\n\
    Exit codes: 0 success, 1 failure, 2 wrong command line or settings, 3 a difference was found.")]
pub struct Cli {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags that every command takes. They win over the environment, and the environment over the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
struct SettingFlags {
    /// A TOML file of settings: their names in lower case
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database; without one, an embedded Postgres
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// The folder of the embedded database
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<String>,
    /// The address to serve on
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What to log: a level, or a list such as info,billsync=debug
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: pretty or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any setting that is no secret, by name; may be repeated
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = parse_assignment)]
    assignments: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeCommand),
    Healthcheck(healthcheck::HealthcheckCommand),
    Demo(demo::DemoCommand),
    Doctor(doctor::DoctorCommand),
    Migrate(migrate::MigrateCommand),
    Plans(plans::PlansCommand),
    Replay(replay::ReplayCommand),
    Send(send::SendCommand),
    Reconcile(reconcile::ReconcileCommand),
    Backfill(backfill::BackfillCommand),
    Import(import::ImportCommand),
    Inspect(inspect::InspectCommand),
    Bench(bench::BenchCommand),
    Rebuild(rebuild::RebuildCommand),
    ResetUsage(reset_usage::ResetUsageCommand),
    Schedule(schedule::ScheduleCommand),
    Users(users::UsersCommand),
    Config(config::ConfigCommand),
    Openapi(openapi::OpenapiCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("has to be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl SettingFlags {
    fn to_flags(&self) -> Flags {
        let mut values: Vec<(String, String, String)> =
            self.assignments.iter().map(|(name, value)| (name.clone(), "--set".to_owned(), value.clone())).collect();
        for (name, flag, value) in [
            ("DATABASE_URL", "--database-url", &self.database_url),
            ("BILLSYNC_HOME", "--home", &self.home),
            ("BILLSYNC_LISTEN", "--listen", &self.listen),
            ("BILLSYNC_LOG", "--log", &self.log),
            ("BILLSYNC_LOG_FORMAT", "--log-format", &self.log_format),
        ] {
            if let Some(value) = value {
                values.push((name.to_owned(), flag.to_owned(), value.clone()));
            }
        }
        Flags { file: self.config.clone(), values }
    }
}

/// Runs what the arguments ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Hidden, and without settings: billsync starts it by itself, with arguments that no person writes.
    if let Some((_, [command, rest @ ..])) = arguments.split_first()
        && command == guard::COMMAND
    {
        return guard::run(rest).map_or_else(|error| failure::tell(&error.into(), false), |()| Exit::Success).into();
    }
    let json = failure::is_json_asked(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return failure::tell_misunderstood(&error, json).into(),
    };
    // What TLS is made with, for every HTTP client of this process; there is none before it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = match cli.command {
        None => output::print(&Cli::command().render_help().to_string()).map(|()| Exit::Success),
        // It tells what is wrong with the settings among everything else.
        Some(Command::Doctor(doctor)) => diagnose(&doctor, &cli.settings.to_flags()),
        // They tell of the command line alone, and are run where billsync is packaged, not where it is configured.
        Some(Command::Completions(completions)) => completions.run(),
        Some(Command::Man(man)) => man.run(),
        Some(command) => Config::load(&cli.settings.to_flags()).map_err(Into::into).and_then(|config| command.run(&config)),
    };
    ended.unwrap_or_else(|error| failure::tell(&error, json)).into()
}

impl Command {
    fn run(self, config: &Config) -> anyhow::Result<Exit> {
        let runtime = runtime()?;
        let mut traces = None;
        match self {
            // It prints what the log would say.
            Command::Config(_) => {}
            Command::Serve(_) => traces = start_serving_log(config, &runtime)?,
            // Its words are all that there is to say of a server's health.
            Command::Healthcheck(_) => start_log(config, "error")?,
            // It forges a signature, and tells itself that this was refused.
            Command::Demo(_) => start_log(config, "error")?,
            // They read whole tables, and make indexes and rows: that this takes a while is no news.
            Command::Inspect(_) | Command::Bench(_) => start_log(config, "warn,sqlx=error")?,
            _ => start_log(config, "warn")?,
        }
        let ended = runtime.block_on(async {
            match self {
                Command::Serve(command) => command.run(config).await,
                Command::Healthcheck(command) => command.run(config).await,
                Command::Demo(command) => command.run(config).await,
                Command::Doctor(command) => command.run(config, &[]).await,
                Command::Migrate(command) => command.run(config).await,
                Command::Plans(command) => command.run(config).await,
                Command::Replay(command) => command.run(config).await,
                Command::Send(command) => command.run(config).await,
                Command::Reconcile(command) => command.run(config).await,
                Command::Backfill(command) => command.run(config).await,
                Command::Import(command) => command.run(config).await,
                Command::Inspect(command) => command.run(config).await,
                Command::Bench(command) => command.run(config).await,
                Command::Rebuild(command) => command.run(config).await,
                Command::ResetUsage(command) => command.run(config).await,
                Command::Schedule(command) => command.run(config).await,
                Command::Users(command) => command.run(config).await,
                Command::Config(command) => command.run(config),
                Command::Openapi(command) => command.run(),
                Command::Completions(command) => command.run(),
                Command::Man(command) => command.run(),
            }
        });
        if let Some(traces) = traces {
            traces.end();
            // A collector whose name nobody resolves must not hold up the end.
            runtime.shutdown_background();
        }
        ended
    }
}

/// Runs `doctor` with whatever of the settings can be read.
fn diagnose(doctor: &doctor::DoctorCommand, flags: &Flags) -> anyhow::Result<Exit> {
    let (config, problems) = Config::load_what_can_be(flags);
    telemetry::start(config.log.as_deref().unwrap_or("error"), config.log_format)?;
    runtime()?.block_on(doctor.run(&config, &problems))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Starts the log of `serve`, and beside it traces if there is a collector to send them to.
fn start_serving_log(config: &Config, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Option<Traces>> {
    let Some(endpoint) = &config.otlp_endpoint else {
        start_log(config, "info")?;
        return Ok(None);
    };
    let traces = Traces::to(endpoint, runtime.handle().clone())?;
    telemetry::start_with_traces(config.log.as_deref().unwrap_or("info"), config.log_format, &traces)?;
    log_warnings(config);
    Ok(Some(traces))
}

/// Starts the log, at the level of `default` unless a setting says otherwise, and says in it what the settings leave to wonder about.
fn start_log(config: &Config, default: &str) -> anyhow::Result<()> {
    telemetry::start(config.log.as_deref().unwrap_or(default), config.log_format)?;
    log_warnings(config);
    Ok(())
}

fn log_warnings(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
