//! Every setting, read once, checked and typed. The only reader of the environment. A problem names its setting and never
//! the value, because the value may be a secret.

mod layers;
mod parse;
mod report;
mod secret;
mod settings;

use std::fmt;
use std::path::PathBuf;

pub use report::ReportLine;
pub use secret::{DatabaseUrl, Secret};
pub use settings::{Kind, SETTINGS, Setting};

use crate::domain::rules::Rules;
use crate::telemetry::Format;

/// What is in force. Made by [`Config::load`] alone, so whoever holds one holds checked values.
#[derive(Clone, Debug)]
pub struct Config {
    /// `None`: the embedded Postgres.
    pub database_url: Option<DatabaseUrl>,
    /// A direct connection for migrations, when `database_url` goes through a pooler.
    pub migration_database_url: Option<DatabaseUrl>,
    pub pooler: Pooler,
    /// Whether `serve` migrates the schema when it starts.
    pub migrate: bool,
    /// The folder of the embedded cluster and of generated secrets.
    pub home: PathBuf,
    /// The folder with `initdb` and `postgres` for the embedded server; `None`: looked for.
    pub postgres_bin: Option<PathBuf>,
    /// `host:port`; port 0 means any free one.
    pub listen: String,
    pub stripe_webhook_secrets: Vec<Secret>,
    pub clerk_webhook_secrets: Vec<Secret>,
    pub stripe_api_key: Option<Secret>,
    pub stripe_api_base: Option<String>,
    pub stripe_requests_per_second: u32,
    pub clerk_secret_key: Option<Secret>,
    pub clerk_api_base: Option<String>,
    pub api_tokens: Vec<ApiToken>,
    /// Keys of session tokens: a PEM or JWK set itself, a file that holds one, or the URL of a JWK set.
    pub jwt_keys: Option<JwtKeys>,
    pub jwt_issuer: Option<String>,
    pub jwt_authorized_parties: Vec<String>,
    pub rules: Rules,
    pub signature_tolerance_seconds: i64,
    pub body_limit_bytes: usize,
    pub queue_events: usize,
    /// 0: for ever.
    pub ledger_retention_days: u32,
    /// A `tracing` filter, such as `info` or `billsync=debug`; `None`: `info` for `serve`, less for other commands.
    pub log: Option<String>,
    pub log_format: Format,
    pub otlp_endpoint: Option<String>,
    /// What is accepted, yet probably not meant. For the log.
    pub warnings: Vec<String>,
    /// Every setting as it is in force, in the order of [`SETTINGS`].
    pub report: Vec<ReportLine>,
}

/// What stands between us and Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// A direct connection, or a pooler in session mode.
    None,
    /// Supavisor or pgBouncer in transaction mode: no named statement, no session state.
    Transaction,
}

/// Where the public keys of session tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// A PEM public key or a JWK set that can be read, given as such or in a file.
    Text(String),
    Url(String),
}

/// A named bearer token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub token: Secret,
}

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The TOML file to read.
    pub file: Option<PathBuf>,
    /// Setting name, the flag that set it, value.
    pub values: Vec<(String, String, String)>,
}

/// Why billsync refuses to start: every problem at once, each naming its setting, none naming a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads flags, the environment and the file, in this order of precedence.
    pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
        let file = read_file(flags).map_err(|problem| ConfigError { problems: vec![problem] })?;
        Config::from_layers(&flags.values, std::env::vars_os(), file)
    }

    /// The same, but goes on without what cannot be read; beside it every problem, each naming its setting, none naming a
    /// value. For looking at a deployment, never for working with it.
    pub fn load_what_can_be(flags: &Flags) -> (Config, Vec<String>) {
        let (file, unreadable) = match read_file(flags) {
            Ok(file) => (file, None),
            Err(problem) => (None, Some(problem)),
        };
        let (config, problems) = parse::parse_what_can_be(layers::read(&flags.values, std::env::vars_os(), file));
        (config, unreadable.into_iter().chain(problems).collect())
    }

    /// Whether anybody has set it, readably or not.
    pub fn is_given(&self, setting: &str) -> bool {
        self.report.iter().any(|line| line.name == setting && line.source != report::DEFAULT_SOURCE)
    }

    /// The same from values in memory: what [`Config::load`] has read.
    pub fn from_layers(
        flags: &[(String, String, String)],
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        file: Option<(String, String)>,
    ) -> Result<Config, ConfigError> {
        let layers = layers::read(flags, environment, file);
        parse::parse(layers)
    }
}

/// The path and contents of the file that the flags name; else why it cannot be read.
fn read_file(flags: &Flags) -> Result<Option<(String, String)>, String> {
    let Some(path) = &flags.file else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) => Err(format!("--config {}: {error}", path.display())),
    }
}

/// The folders of `PATH`, where the embedded server's binaries are looked for.
pub fn executable_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// What a program of somebody else's may see of our environment: what it needs to be found and to run, and no secret.
pub fn harmless_environment() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    let names = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TZ"];
    names.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests;
