//! What the settings alone tell: whether they can be read, the shape of secrets, what is not set and what that means.

use crate::cli::doctor::finding::Findings;
use crate::config::{Config, Kind, SETTINGS, Secret};

/// Settings, secrets, keys.
pub fn check(config: &Config, problems: &[String], findings: &mut Findings) {
    for problem in problems {
        findings.error("settings", problem.clone(), fix_of(problem));
    }
    for warning in &config.warnings {
        findings.warn("settings", warning.clone(), fix_of(warning));
    }
    if problems.is_empty() && config.warnings.is_empty() {
        let given = SETTINGS.iter().filter(|setting| config.is_given(setting.name)).count();
        findings.ok("settings", format!("{given} of {} settings are set, and every one can be read", SETTINGS.len()));
    }
    if config.api_tokens.is_empty() && !config.is_given("BILLSYNC_API_TOKENS") {
        findings.ok("settings", "BILLSYNC_API_TOKENS is not set: nothing below /v1 and /admin exists");
    }
    check_secrets(config, "STRIPE_WEBHOOK_SECRETS", "stripe", &config.stripe_webhook_secrets, findings);
    check_secrets(config, "CLERK_WEBHOOK_SECRETS", "clerk", &config.clerk_webhook_secrets, findings);
}

/// A problem begins with the setting that it is about.
fn fix_of(problem: &str) -> String {
    let mut words = problem.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let setting = words.find_map(|word| {
        let name = word.to_ascii_uppercase();
        SETTINGS.iter().find(|setting| setting.name == name || setting.alias == Some(name.as_str()))
    });
    let Some(setting) = setting else { return "billsync config --help   # the README lists every setting".to_owned() };
    if problem.contains("unknown setting") || problem.contains("is not a setting") {
        return format!("use the name {}", setting.name);
    }
    if problem.contains("is set but empty") {
        return format!("unset {}   # its default is {}", setting.name, setting.default);
    }
    format!("export {}={}   # {}", setting.name, example(setting.name, setting.kind), setting.meaning)
}

fn example(name: &str, kind: Kind) -> &'static str {
    match (name, kind) {
        ("STRIPE_API_KEY", _) => "rk_live_…",
        ("CLERK_SECRET_KEY", _) => "sk_live_…",
        (_, Kind::SecretList) => "whsec_…",
        (_, Kind::NamedSecretList) => "app:$(openssl rand -hex 32)",
        (_, Kind::DatabaseUrl) => "postgres://user:password@host:5432/database",
        (_, Kind::Secret | Kind::Plain) => "…",
    }
}

/// The shape was checked when they were read; what is said here holds no part of them.
fn check_secrets(config: &Config, setting: &'static str, provider: &str, secrets: &[Secret], findings: &mut Findings) {
    match secrets.len() {
        // One that cannot be read has been told.
        0 if config.is_given(setting) => {}
        0 => findings.warn(
            "secrets",
            format!("{setting} is not set: /webhooks/{provider} answers 404"),
            format!("export {setting}=whsec_…   # the signing secret of the endpoint, from {provider}'s Dashboard"),
        ),
        1 => findings.ok("secrets", format!("{setting}: one secret, of the right shape")),
        count => findings.ok(
            "secrets",
            format!("{setting}: {count} secrets, all of the right shape; drop the old one when the provider has the new one"),
        ),
    }
}
