//! What the settings alone tell: whether they can be read, the shape of secrets, what is not set and what that means.

use crate::cli::doctor::finding::Findings;
use crate::config::{Config, Kind, SETTINGS, Secret};
use crate::domain::rules::Livemode;

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
    check_secrets(config, "STRIPE_WEBHOOK_SECRETS", ["stripe", "Stripe"], &config.stripe_webhook_secrets, findings);
    check_secrets(config, "CLERK_WEBHOOK_SECRETS", ["clerk", "Clerk"], &config.clerk_webhook_secrets, findings);
    check_keys(config, findings);
}

/// What a key begins with tells whose it is, and of which mode.
fn check_keys(config: &Config, findings: &mut Findings) {
    if let Some(key) = &config.stripe_api_key {
        let begins = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| key.expose().starts_with(prefix));
        let (is_live, is_test) = (begins(["sk_live_", "rk_live_"]), begins(["sk_test_", "rk_test_"]));
        let fix = "export STRIPE_API_KEY=rk_live_…   # a restricted key from Stripe's Dashboard, Developers, API keys";
        match config.rules.livemode {
            _ if !is_live && !is_test => {
                findings.warn("secrets", "STRIPE_API_KEY does not begin as a secret or restricted key does", fix);
            }
            Livemode::Live if is_test => {
                let what = "STRIPE_API_KEY is of test mode, but BILLSYNC_LIVEMODE is live: what it reads is ignored";
                findings.error("secrets", what, fix);
            }
            Livemode::Test if is_live => {
                let what = "STRIPE_API_KEY is of live mode, but BILLSYNC_LIVEMODE is test: what it reads is ignored";
                findings.error("secrets", what, "export BILLSYNC_LIVEMODE=live   # or STRIPE_API_KEY=rk_test_…");
            }
            Livemode::Live | Livemode::Test | Livemode::Any => {
                let mode = if is_live { "live" } else { "test" };
                findings.ok("secrets", format!("STRIPE_API_KEY: of the right shape, {mode} mode"));
            }
        }
    }
    if let Some(key) = &config.clerk_secret_key {
        if key.expose().starts_with("sk_") {
            findings.ok("secrets", "CLERK_SECRET_KEY: of the right shape");
        } else {
            let fix = "export CLERK_SECRET_KEY=sk_live_…   # the secret key from Clerk's Dashboard, API keys";
            findings.warn("secrets", "CLERK_SECRET_KEY does not begin with sk_ as secret keys do", fix);
        }
    }
}

/// A problem begins with the setting that it is about, as it was given, and where: `NAME (environment): …`.
fn fix_of(problem: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = problem.split(|c: char| !is_of_name(c)).filter(|word| !word.is_empty());
    let find = |word: &str| {
        let name = word.to_ascii_uppercase();
        SETTINGS.iter().find(|setting| setting.name == name || setting.alias == Some(name.as_str()))
    };
    let Some((given, setting)) = words.into_iter().find_map(|word| Some((word, find(word)?))) else {
        return "billsync config --help   # the README lists every setting".to_owned();
    };
    let source = problem.split_once(" (").and_then(|(_, rest)| rest.split_once("):")).map(|(source, _)| source);
    let file = source.filter(|source| *source != "environment" && !source.starts_with("flag "));
    if problem.contains("unknown setting") || problem.contains("is not a setting") {
        return format!("use the name {}", setting.name);
    }
    if let Some(alias) = setting.alias.filter(|_| problem.contains("both are set")) {
        return format!("unset {alias}   # and keep {}", setting.name);
    }
    if problem.contains("is set but empty") && file.is_none() {
        return format!("unset {given}   # its default is {}", setting.default);
    }
    let example = example(setting.name, setting.kind);
    match file {
        Some(file) => format!("{given} = \"{example}\"   # in {file}: {}", setting.meaning),
        None => format!("export {given}={example}   # {}", setting.meaning),
    }
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
fn check_secrets(
    config: &Config,
    setting: &'static str,
    [route, provider]: [&str; 2],
    secrets: &[Secret],
    findings: &mut Findings,
) {
    match secrets.len() {
        // One that cannot be read has been told.
        0 if config.is_given(setting) => {}
        0 => findings.warn(
            "secrets",
            format!("{setting} is not set: /webhooks/{route} answers 404"),
            format!("export {setting}=whsec_…   # the signing secret of the endpoint, from {provider}'s Dashboard"),
        ),
        1 => findings.ok("secrets", format!("{setting}: one secret, of the right shape")),
        count => findings.ok(
            "secrets",
            format!("{setting}: {count} secrets, all of the right shape; drop the old one when the provider has the new one"),
        ),
    }
}
