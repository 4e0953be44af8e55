//! From texts to typed values, with every rule on what a value must look like.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::config::layers::{Given, Layers};
use crate::config::report;
use crate::config::secret::{DatabaseUrl, Secret};
use crate::config::{ApiToken, Config, ConfigError, JwtKeys, Pooler};
use crate::domain::rules::{Livemode, Rules};
use crate::domain::signature::session_token::PublicKeys;
use crate::domain::signature::standard_webhooks::ClerkSecret;
use crate::domain::signature::stripe::StripeSecret;
use crate::telemetry::Format;

const MIN_TOKEN_CHARACTERS: usize = 32;
/// A blank in a deployment's settings is a mistake worth seeing, not "not set".
const EMPTY: &str = "is set but empty; unset it or give it a value";
/// Where `BILLSYNC_LISTEN` points when it is not set.
const DEFAULT_LISTEN: &str = "127.0.0.1:8787";

/// Types every value; problems and warnings are gathered, so that one start shows them all.
pub fn parse(layers: Layers) -> Result<Config, ConfigError> {
    let (config, problems) = parse_what_can_be(layers);
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
}

/// What cannot be read is as if it were not set, and a problem.
pub fn parse_what_can_be(layers: Layers) -> (Config, Vec<String>) {
    let mut reader = Reader { layers };
    let stripe_api_key = reader.one("STRIPE_API_KEY", secret);
    let log_format = reader.one("BILLSYNC_LOG_FORMAT", log_format).unwrap_or_else(Format::of_terminal);
    let rules = reader.rules(stripe_api_key.as_ref());
    let config = Config {
        database_url: reader.one("DATABASE_URL", DatabaseUrl::parse),
        migration_database_url: reader.one("BILLSYNC_MIGRATION_DATABASE_URL", DatabaseUrl::parse),
        pooler: reader.one("BILLSYNC_POOLER", pooler).unwrap_or(Pooler::None),
        migrate: reader.one("BILLSYNC_MIGRATE", boolean).unwrap_or(true),
        home: reader.one("BILLSYNC_HOME", path).unwrap_or_else(|| PathBuf::from("./.billsync")),
        postgres_bin: reader.one("BILLSYNC_POSTGRES_BIN", path),
        listen: reader.one("BILLSYNC_LISTEN", listen).unwrap_or_else(|| DEFAULT_LISTEN.to_owned()),
        stripe_webhook_secrets: reader.list("STRIPE_WEBHOOK_SECRETS", stripe_webhook_secret),
        clerk_webhook_secrets: reader.list("CLERK_WEBHOOK_SECRETS", clerk_webhook_secret),
        stripe_api_key,
        stripe_api_base: reader.one("STRIPE_API_BASE", http_url),
        stripe_requests_per_second: reader.number("BILLSYNC_STRIPE_REQUESTS_PER_SECOND", 20, 1..=100),
        clerk_secret_key: reader.one("CLERK_SECRET_KEY", secret),
        clerk_api_base: reader.one("CLERK_API_BASE", http_url),
        api_tokens: reader.list("BILLSYNC_API_TOKENS", api_token),
        jwt_keys: reader.one("BILLSYNC_JWT_KEYS", jwt_keys),
        jwt_issuer: reader.one("BILLSYNC_JWT_ISSUER", |text| Ok(text.to_owned())),
        jwt_authorized_parties: reader.list("BILLSYNC_JWT_AUTHORIZED_PARTIES", |text| Ok(text.to_owned())),
        signature_tolerance_seconds: reader.number("BILLSYNC_SIGNATURE_TOLERANCE_SECONDS", 300, 1..=86_400),
        body_limit_bytes: reader.number("BILLSYNC_BODY_LIMIT_BYTES", 2 * 1024 * 1024, 1024..=32 * 1024 * 1024),
        queue_events: reader.number("BILLSYNC_QUEUE_EVENTS", 1024, 1..=1_000_000),
        ledger_retention_days: reader.one("BILLSYNC_LEDGER_RETENTION_DAYS", retention).unwrap_or(0),
        log: reader.one("BILLSYNC_LOG", log_filter),
        log_format,
        otlp_endpoint: reader.one("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_endpoint),
        report: report::lines(&reader.layers, &effective(&rules, log_format)),
        rules,
        warnings: Vec::new(),
    };
    reader.check_together(&config);
    let Layers { problems, warnings, .. } = reader.layers;
    (Config { warnings, ..config }, problems)
}

/// Defaults that depend on something else, for the report.
fn effective(rules: &Rules, log_format: Format) -> Vec<(&'static str, String)> {
    let livemode = match rules.livemode {
        Livemode::Live => "live",
        Livemode::Test => "test",
        Livemode::Any => "any",
    };
    let format = match log_format {
        Format::Pretty => "pretty",
        Format::Json => "json",
    };
    vec![("BILLSYNC_LIVEMODE", livemode.to_owned()), ("BILLSYNC_LOG_FORMAT", format.to_owned())]
}

struct Reader {
    layers: Layers,
}

impl Reader {
    /// The value as given, trimmed.
    fn text(&mut self, name: &'static str) -> Option<(Given, String)> {
        let given = self.layers.values.get(name)?.clone();
        let trimmed = given.text.trim();
        if trimmed.is_empty() {
            self.problem(&given, EMPTY);
            return None;
        }
        if trimmed.len() != given.text.len() {
            self.layers.warnings.push(format!("{} ({}): white space around the value is ignored", given.name, given.source));
        }
        let trimmed = trimmed.to_owned();
        Some((given, trimmed))
    }

    fn problem(&mut self, given: &Given, what: &str) {
        self.layers.problems.push(format!("{} ({}): {what}", given.name, given.source));
    }

    fn one<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (given, text) = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.problem(&given, &what);
                None
            }
        }
    }

    fn number<T>(&mut self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let parse = |text: &str| {
            let number = text.parse::<T>().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("has to be a whole number from {} to {}", range.start(), range.end()))
        };
        self.one(name, parse).unwrap_or(default)
    }

    fn list<T: PartialEq>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(given) = self.layers.values.get(name).cloned() else { return Vec::new() };
        if given.text.trim().is_empty() {
            self.problem(&given, EMPTY);
        }
        let mut values = Vec::new();
        for (index, part) in given.text.split(',').enumerate().filter(|_| !given.text.trim().is_empty()) {
            let trimmed = part.trim();
            let entry = format!("{} ({}): entry {}", given.name, given.source, index + 1);
            if trimmed.is_empty() {
                self.layers.problems.push(format!("{entry} is empty"));
                continue;
            }
            if trimmed.len() != part.len() {
                self.layers.warnings.push(format!("{entry}: white space around it is ignored"));
            }
            match parse(trimmed) {
                Ok(value) if values.contains(&value) => self.layers.warnings.push(format!("{entry} repeats an earlier one")),
                Ok(value) => values.push(value),
                Err(what) => self.layers.problems.push(format!("{entry} {what}")),
            }
        }
        values
    }

    fn rules(&mut self, stripe_api_key: Option<&Secret>) -> Rules {
        let defaults = Rules::default();
        let keys = self.list("BILLSYNC_LINK_METADATA_KEYS", metadata_key);
        Rules {
            livemode: self.one("BILLSYNC_LIVEMODE", livemode).unwrap_or_else(|| mode_of_key(stripe_api_key)),
            link_by_payment_link: self.one("BILLSYNC_LINK_BY_PAYMENT_LINK", boolean).unwrap_or(defaults.link_by_payment_link),
            link_by_verified_email: self
                .one("BILLSYNC_LINK_BY_VERIFIED_EMAIL", boolean)
                .unwrap_or(defaults.link_by_verified_email),
            link_metadata_keys: if keys.is_empty() { defaults.link_metadata_keys } else { keys },
            unmapped_plan: self.one("BILLSYNC_UNMAPPED_PLAN", plan_key).unwrap_or(defaults.unmapped_plan),
        }
    }

    /// Rules that concern several settings.
    fn check_together(&mut self, config: &Config) {
        let names: Vec<&str> = config.api_tokens.iter().map(|token| token.name.as_str()).collect();
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                self.layers.problems.push(format!("BILLSYNC_API_TOKENS: two tokens are named {name}"));
            }
        }
        let pooled = config.pooler == Pooler::Transaction;
        if pooled && config.database_url.is_none() {
            self.layers.problems.push("BILLSYNC_POOLER: has a meaning with DATABASE_URL only".into());
        }
        if pooled && config.migrate && config.migration_database_url.is_none() {
            self.layers.problems.push(
                "BILLSYNC_POOLER: migrations need a session: set BILLSYNC_MIGRATION_DATABASE_URL to a direct connection, or \
                 BILLSYNC_MIGRATE to false and migrate by hand"
                    .into(),
            );
        }
        if config.migration_database_url.is_some() && config.database_url.is_none() {
            self.layers.problems.push("BILLSYNC_MIGRATION_DATABASE_URL: has a meaning with DATABASE_URL only".into());
        }
        if config.jwt_keys.is_some() && config.jwt_issuer.is_none() {
            self.layers.problems.push("BILLSYNC_JWT_KEYS: set BILLSYNC_JWT_ISSUER too, Clerk's Frontend API URL".into());
        }
        let keys_are_refused = self.layers.problems.iter().any(|problem| problem.starts_with("BILLSYNC_JWT_KEYS"));
        if config.jwt_keys.is_none()
            && !keys_are_refused
            && (config.jwt_issuer.is_some() || !config.jwt_authorized_parties.is_empty())
        {
            self.layers
                .problems
                .push("BILLSYNC_JWT_ISSUER, BILLSYNC_JWT_AUTHORIZED_PARTIES: have a meaning with BILLSYNC_JWT_KEYS only".into());
        }
        for secret in &config.stripe_webhook_secrets {
            if !secret.expose().starts_with("whsec_") {
                self.layers.warnings.push("STRIPE_WEBHOOK_SECRETS: Stripe's signing secrets begin with whsec_".into());
            }
        }
    }
}

fn mode_of_key(key: Option<&Secret>) -> Livemode {
    let mode = |prefixes: [&str; 2]| key.is_some_and(|key| prefixes.iter().any(|p| key.expose().starts_with(p)));
    if mode(["sk_live_", "rk_live_"]) {
        Livemode::Live
    } else if mode(["sk_test_", "rk_test_"]) {
        Livemode::Test
    } else {
        Livemode::Any
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("has to be true or false".into()),
    }
}

fn pooler(text: &str) -> Result<Pooler, String> {
    match text {
        "transaction" => Ok(Pooler::Transaction),
        "none" | "session" => Ok(Pooler::None),
        _ => Err("has to be transaction, session or none".into()),
    }
}

fn log_format(text: &str) -> Result<Format, String> {
    match text {
        "pretty" => Ok(Format::Pretty),
        "json" => Ok(Format::Json),
        _ => Err("has to be pretty or json".into()),
    }
}

fn livemode(text: &str) -> Result<Livemode, String> {
    match text {
        "live" => Ok(Livemode::Live),
        "test" => Ok(Livemode::Test),
        "any" => Ok(Livemode::Any),
        _ => Err("has to be live, test or any".into()),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn listen(text: &str) -> Result<String, String> {
    let wrong = || "has to be host:port, such as 127.0.0.1:8787 or [::1]:8787".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || host.contains('/') || bare_ipv6 || port.parse::<u16>().is_err() || port.starts_with('+') {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

fn http_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Err("has to be a URL without a password".into()),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        _ => Err("has to be a URL that begins with http:// or https://".into()),
    }
}

/// A base address, to which a path is added: what comes after a path would end up in its middle.
fn otlp_endpoint(text: &str) -> Result<String, String> {
    let endpoint = http_url(text)?;
    if endpoint.contains(['?', '#']) { Err("has to be a URL that ends with its host or path".into()) } else { Ok(endpoint) }
}

fn retention(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(days) if days == 0 || (35..=36_500).contains(&days) => Ok(days),
        _ => Err("has to be 0 (for ever) or a number of days from 35 to 36500".into()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("has to be a level (error, warn, info, debug, trace) or a list such as info,billsync=debug".into()),
    }
}

fn plan_key(text: &str) -> Result<String, String> {
    if text.chars().count() <= 50 { Ok(text.to_owned()) } else { Err("has to be a plan key of at most 50 characters".into()) }
}

/// Stripe: metadata keys have at most 40 characters and no square brackets.
fn metadata_key(text: &str) -> Result<String, String> {
    if text.chars().count() <= 40 && !text.contains(['[', ']']) {
        Ok(text.to_owned())
    } else {
        Err("is no metadata key: at most 40 characters, no square brackets".into())
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    // Env files of containers keep quotation marks, and then every signature fails for no visible reason.
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return Err("is wrapped in quotation marks".into());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("contains white space or control characters".into());
    }
    Ok(Secret::new(text))
}

fn stripe_webhook_secret(text: &str) -> Result<Secret, String> {
    if ["sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_"].iter().any(|p| text.starts_with(p)) {
        return Err("is an API key; the endpoint's signing secret begins with whsec_".into());
    }
    StripeSecret::parse(text).map_err(|error| format!("cannot be used: {error}"))?;
    secret(text)
}

fn clerk_webhook_secret(text: &str) -> Result<Secret, String> {
    ClerkSecret::parse(text).map_err(|error| format!("cannot be used: {error}"))?;
    secret(text)
}

fn jwt_keys(text: &str) -> Result<JwtKeys, String> {
    if text.starts_with("-----BEGIN") || text.starts_with('{') {
        PublicKeys::parse(text).map_err(|error| format!("cannot be used: {error}"))?;
        return Ok(JwtKeys::Text(text.to_owned()));
    }
    if text.contains("://") {
        return http_url(text).map(JwtKeys::Url);
    }
    let text = std::fs::read_to_string(text).map_err(|error| format!("the file cannot be read: {error}"))?;
    PublicKeys::parse(&text).map_err(|error| format!("the file cannot be used: {error}"))?;
    Ok(JwtKeys::Text(text))
}

fn api_token(text: &str) -> Result<ApiToken, String> {
    let (name, token) = text.split_once(':').ok_or("has to be name:token")?;
    let name_is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !name_is_plain {
        return Err("has to be name:token, the name of letters, digits, - _ .".into());
    }
    if token.chars().count() < MIN_TOKEN_CHARACTERS {
        return Err(format!("has a token of fewer than {MIN_TOKEN_CHARACTERS} characters"));
    }
    Ok(ApiToken { name: name.to_owned(), token: secret(token)? })
}
