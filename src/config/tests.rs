//! Precedence, refusals and redaction of settings.

use std::ffi::OsString;

use super::*;
use crate::domain::rules::Livemode;

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::from_layers(&[], environment, None)
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::from_layers(&[], [], Some(("billsync.toml".into(), text.into())))
}

fn problem(result: Result<Config, ConfigError>) -> String {
    result.expect_err("refused").to_string()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn nothing_set_is_the_documented_defaults() {
    let config = from_environment(&[]).expect("starts");
    assert_eq!(config.database_url, None);
    assert_eq!(config.listen, "127.0.0.1:8787");
    assert_eq!(config.home, PathBuf::from("./.billsync"));
    assert!(config.stripe_webhook_secrets.is_empty() && config.clerk_webhook_secrets.is_empty() && config.api_tokens.is_empty());
    assert_eq!(config.rules.livemode, Livemode::Any);
    assert_eq!(config.rules.unmapped_plan, "free");
    assert_eq!((config.signature_tolerance_seconds, config.body_limit_bytes), (300, 2_097_152));
    assert_eq!((config.queue_events, config.ledger_retention_days), (1024, 0));
    assert_eq!((config.log, config.pooler, config.migrate), (None, Pooler::None, true));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file = "billsync_listen = \"127.0.0.1:1\"\nbillsync_log = \"warn\"\nbillsync_home = \"/file\"\n";
    let environment = [("BILLSYNC_LISTEN", "127.0.0.1:2"), ("BILLSYNC_LOG", "debug")];
    let flag = ("BILLSYNC_LISTEN".to_owned(), "--listen".to_owned(), "127.0.0.1:3".to_owned());
    let config = Config::from_layers(
        &[flag],
        environment.map(|(name, value)| (name.into(), value.into())),
        Some(("billsync.toml".into(), file.into())),
    )
    .expect("starts");
    assert_eq!((config.listen.as_str(), config.log.as_deref()), ("127.0.0.1:3", Some("debug")));
    assert_eq!(config.home, PathBuf::from("/file"));
    let source = |name| config.report.iter().find(|line| line.name == name).expect("reported").source.clone();
    assert_eq!(source("BILLSYNC_LISTEN"), "flag --listen");
    assert_eq!(source("BILLSYNC_LOG"), "environment");
    assert_eq!(source("BILLSYNC_HOME"), "billsync.toml");
    assert_eq!(source("BILLSYNC_QUEUE_EVENTS"), "default");
}

#[test]
fn an_unknown_variable_of_ours_is_refused_with_the_name_that_was_meant() {
    assert_eq!(
        problem(from_environment(&[("BILLSYNC_LISEN", "127.0.0.1:1")])),
        "BILLSYNC_LISEN: unknown setting; is BILLSYNC_LISTEN meant?"
    );
    assert!(problem(from_environment(&[("BILLSYNC_FROBNICATE", "1")])).contains("BILLSYNC_FROBNICATE: unknown setting"));
    assert!(problem(from_environment(&[("billsync_listen", "127.0.0.1:1")])).contains("is BILLSYNC_LISTEN meant?"));
    assert!(problem(from_file("listen = \"127.0.0.1:1\"")).contains("unknown setting listen"));
    assert!(problem(from_file("BILLSYNC_LISTEN = \"127.0.0.1:1\"")).contains("is billsync_listen meant?"));
}

#[test]
fn a_misspelt_variable_of_a_provider_is_a_warning() {
    let config = from_environment(&[("STRIPE_WEBHOK_SECRET", "whsec_a"), ("STRIPE_PUBLISHABLE_KEY", "pk")]).expect("starts");
    assert_eq!(config.warnings, ["STRIPE_WEBHOK_SECRET is not a setting of billsync: is STRIPE_WEBHOOK_SECRET meant?"]);
}

#[test]
fn values_that_cannot_be_meant_are_refused_without_being_printed() {
    let cases = [
        ("DATABASE_URL", "mysql://u:hunter2@h/db"),
        ("DATABASE_URL", "host=h password=hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2#x@h/db"),
        ("BILLSYNC_POOLER", "hunter2"),
        ("BILLSYNC_MIGRATE", "hunter2"),
        ("BILLSYNC_LISTEN", "hunter2"),
        ("BILLSYNC_LISTEN", "127.0.0.1:65536"),
        ("BILLSYNC_LISTEN", "http://hunter2:1"),
        ("STRIPE_WEBHOOK_SECRETS", "sk_live_hunter2"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_hunter2,"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_"),
        ("STRIPE_WEBHOOK_SECRETS", "\"whsec_hunter2\""),
        ("CLERK_WEBHOOK_SECRETS", "whsec_hunter2!"),
        ("CLERK_WEBHOOK_SECRETS", "whsec_"),
        ("STRIPE_API_KEY", "hunter2 hunter2"),
        ("STRIPE_API_BASE", "ftp://hunter2"),
        ("CLERK_API_BASE", "https://u:hunter2@h"),
        ("BILLSYNC_API_TOKENS", "hunter2"),
        ("BILLSYNC_API_TOKENS", "app:hunter2"),
        ("BILLSYNC_LIVEMODE", "hunter2"),
        ("BILLSYNC_LINK_BY_PAYMENT_LINK", "hunter2"),
        ("BILLSYNC_LINK_METADATA_KEYS", "hunter2[0]"),
        ("BILLSYNC_SIGNATURE_TOLERANCE_SECONDS", "0"),
        ("BILLSYNC_SIGNATURE_TOLERANCE_SECONDS", "-300"),
        ("BILLSYNC_BODY_LIMIT_BYTES", "2 MiB"),
        ("BILLSYNC_QUEUE_EVENTS", "0"),
        ("BILLSYNC_LEDGER_RETENTION_DAYS", "34"),
        ("BILLSYNC_LOG", "=hunter2=,["),
        ("BILLSYNC_LOG_FORMAT", "hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://hunter2:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:hunter2@h"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h/?key=hunter2"),
    ];
    for (name, value) in cases {
        let text = problem(from_environment(&[(name, value)]));
        assert!(text.contains(name), "{name}: {text}");
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
}

#[test]
fn an_empty_value_is_refused_for_every_setting() {
    for setting in SETTINGS {
        for empty in ["", "  "] {
            let text = problem(from_environment(&[(setting.name, empty)]));
            assert!(text.contains(setting.name) && text.contains("is set but empty"), "{text}");
        }
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let text = problem(from_environment(&[("BILLSYNC_LISTEN", "x"), ("BILLSYNC_LOG_FORMAT", "x"), ("BILLSYNC_X", "x")]));
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn secrets_are_trimmed_with_a_warning_and_the_singular_name_is_accepted() {
    let config = from_environment(&[
        ("STRIPE_WEBHOOK_SECRET", " whsec_a, whsec_b\n"),
        ("CLERK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ])
    .expect("starts");
    let exposed: Vec<&str> = config.stripe_webhook_secrets.iter().map(Secret::expose).collect();
    assert_eq!(exposed, ["whsec_a", "whsec_b"]);
    assert_eq!(config.clerk_webhook_secrets.len(), 1);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings.iter().all(|warning| !warning.contains("whsec_a")));
    let both = [("STRIPE_WEBHOOK_SECRET", "whsec_a"), ("STRIPE_WEBHOOK_SECRETS", "whsec_b")];
    assert!(problem(from_environment(&both)).contains("they mean the same"));
}

#[test]
fn a_clerk_secret_may_lack_prefix_and_padding() {
    for secret in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_YWI", "whsec_YWI="] {
        assert!(from_environment(&[("CLERK_WEBHOOK_SECRETS", secret)]).is_ok(), "{secret}");
    }
}

#[test]
fn lists_in_a_file_may_be_arrays() {
    let config = from_file(
        "stripe_webhook_secrets = [\"whsec_a\", \"whsec_b\"]\nbillsync_queue_events = 7\nbillsync_link_by_payment_link = true",
    )
    .expect("starts");
    assert_eq!(config.stripe_webhook_secrets.len(), 2);
    assert_eq!(config.queue_events, 7);
    assert!(config.rules.link_by_payment_link);
    assert!(problem(from_file("[billsync_listen]\na = 1")).contains("billsync_listen"));
}

#[test]
fn a_file_that_is_not_toml_is_located_and_not_quoted() {
    let text = problem(from_file("billsync_listen = \"127.0.0.1:1\"\nstripe_api_key = hunter2\n"));
    assert!(text.starts_with("billsync.toml:2:") && !text.contains("hunter2"), "{text}");
}

#[test]
fn the_mode_of_the_api_key_is_the_default_livemode() {
    for (key, mode) in [("sk_live_x", Livemode::Live), ("rk_test_x", Livemode::Test), ("other", Livemode::Any)] {
        assert_eq!(from_environment(&[("STRIPE_API_KEY", key)]).expect("starts").rules.livemode, mode);
    }
    let both = [("STRIPE_API_KEY", "sk_live_x"), ("BILLSYNC_LIVEMODE", "test")];
    assert_eq!(from_environment(&both).expect("starts").rules.livemode, Livemode::Test);
}

#[test]
fn a_transaction_pooler_needs_a_direct_connection_for_migrations() {
    let pooled = ("BILLSYNC_POOLER", "transaction");
    let url = ("DATABASE_URL", "postgres://u@pooler:6543/db");
    assert!(problem(from_environment(&[pooled])).contains("BILLSYNC_POOLER"));
    assert!(problem(from_environment(&[pooled, url])).contains("BILLSYNC_MIGRATION_DATABASE_URL"));
    assert!(from_environment(&[pooled, url, ("BILLSYNC_MIGRATE", "false")]).is_ok());
    assert!(from_environment(&[pooled, url, ("BILLSYNC_MIGRATION_DATABASE_URL", "postgres://u@direct/db")]).is_ok());
}

#[test]
fn no_secret_is_in_the_report_or_in_debug() {
    let tokens = format!("app:{TOKEN},next:{TOKEN}x");
    let config = from_environment(&[
        ("DATABASE_URL", "postgres://user:hunter2@host:5433/db?sslmode=require&password=hunter2"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_hunter2,whsec_hunter2b"),
        ("CLERK_WEBHOOK_SECRETS", "aHVudGVyMg=="),
        ("STRIPE_API_KEY", "sk_test_hunter2"),
        ("CLERK_SECRET_KEY", "sk_hunter2"),
        ("BILLSYNC_API_TOKENS", &tokens),
    ])
    .expect("starts");
    let shown = format!("{config:?}{}", serde_json::to_string(&config.report).expect("serializes"));
    for secret in ["hunter2", "aHVudGVyMg", TOKEN] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    let value = |name| config.report.iter().find(|line| line.name == name).expect("reported").value.clone();
    assert_eq!(value("DATABASE_URL"), "postgres://user:[redacted]@host:5433/db?sslmode=require&password=[redacted]");
    assert_eq!(value("BILLSYNC_API_TOKENS"), "app:[redacted],next:[redacted]");
    assert_eq!(value("STRIPE_WEBHOOK_SECRETS"), "[redacted],[redacted]");
}

#[test]
fn a_secret_is_not_taken_from_the_command_line() {
    let flag = ("STRIPE_API_KEY".to_owned(), "--set".to_owned(), "sk_hunter2".to_owned());
    let text = problem(Config::from_layers(&[flag], [], None));
    assert!(text.contains("STRIPE_API_KEY") && !text.contains("hunter2"), "{text}");
}

#[test]
fn tokens_of_one_name_are_refused() {
    let tokens = format!("app:{TOKEN},app:{TOKEN}x");
    assert!(problem(from_environment(&[("BILLSYNC_API_TOKENS", &tokens)])).contains("app"));
}

#[test]
fn a_socket_may_stand_in_the_query_alone() {
    for (given, driver) in [
        ("postgres://u:p@/db?host=/sock", "postgres://u:p@localhost/db?host=/sock"),
        ("postgres://u:p@:5433/db?host=/sock", "postgres://u:p@localhost:5433/db?host=/sock"),
        ("postgres:///db?host=/sock&user=u", "postgres:///db?host=/sock&user=u"),
        ("postgres://u:p@host/db?host=/sock", "postgres://u:p@host/db?host=/sock"),
    ] {
        let config = from_environment(&[("DATABASE_URL", given)]).expect("starts");
        let url = config.database_url.expect("set");
        assert_eq!(url.expose(), driver);
        assert!(!url.to_string().contains(":p@"), "{url}");
    }
    assert!(problem(from_environment(&[("DATABASE_URL", "postgres://u:p@/db")])).contains("DATABASE_URL"));
}

#[test]
fn a_password_on_the_command_line_is_refused_or_warned_of() {
    let with_flag =
        |flag: &str, url: &str| Config::from_layers(&[("DATABASE_URL".to_owned(), flag.to_owned(), url.to_owned())], [], None);
    let refused = problem(with_flag("--set", "postgres://u:hunter2@db/app"));
    assert!(refused.contains("--set DATABASE_URL") && !refused.contains("hunter2"), "{refused}");
    assert!(problem(with_flag("--set", "postgres://u@db/app?password=hunter2")).contains("--set DATABASE_URL"));
    let warned = with_flag("--database-url", "postgres://u:hunter2@db/app").expect("starts").warnings;
    assert!(warned.len() == 1 && warned[0].contains("--database-url") && !warned[0].contains("hunter2"), "{warned:?}");
    for flag in ["--set", "--database-url"] {
        assert_eq!(with_flag(flag, "postgres://u@db/app").expect("starts").warnings, Vec::<String>::new());
    }
}

#[test]
fn keys_of_session_tokens_are_checked_before_anything_starts() {
    let issuer = ("BILLSYNC_JWT_ISSUER", "https://clerk.example.com");
    let url = ("BILLSYNC_JWT_KEYS", "https://clerk.example.com/.well-known/jwks.json");
    let config = from_environment(&[url, issuer]).expect("starts");
    assert!(matches!(config.jwt_keys, Some(JwtKeys::Url(_))));
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/src/domain/signature/session_token/tests/public_key.pem");
    let config = from_environment(&[("BILLSYNC_JWT_KEYS", pem), issuer]).expect("starts");
    assert!(matches!(config.jwt_keys, Some(JwtKeys::Text(text)) if text.starts_with("-----BEGIN")));
    let private = concat!(env!("CARGO_MANIFEST_DIR"), "/src/domain/signature/session_token/tests/private_key.pem");
    for (path, expected) in [("/no/such/file.pem", "the file cannot be read"), (private, "the file cannot be used")] {
        let told = problem(from_environment(&[("BILLSYNC_JWT_KEYS", path), issuer]));
        assert!(told.contains(expected), "{told}");
    }

    assert!(problem(from_environment(&[url])).contains("BILLSYNC_JWT_KEYS: set BILLSYNC_JWT_ISSUER too"));
    for alone in [issuer, ("BILLSYNC_JWT_AUTHORIZED_PARTIES", "https://app.example.com")] {
        assert!(problem(from_environment(&[alone])).contains("have a meaning with BILLSYNC_JWT_KEYS only"), "{alone:?}");
    }
    let not_keys = [
        "-----BEGIN PUBLIC KEY-----\nbm9uc2Vuc2UtaHVudGVyMg==\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2UtaHVudGVyMg==\n-----END PRIVATE KEY-----",
        "{\"keys\": \"hunter2\"}",
        "{\"keys\": []}",
        "ftp://hunter2.example.com/jwks.json",
        "",
    ];
    for text in not_keys {
        let told = problem(from_environment(&[("BILLSYNC_JWT_KEYS", text), issuer]));
        assert!(
            told.starts_with("BILLSYNC_JWT_KEYS (environment): ")
                && !told.contains("ISSUER")
                && !told.contains("hunter2")
                && !told.contains("bm9uc2Vuc2U"),
            "{told}"
        );
    }
    let told = problem(from_environment(&[url, ("BILLSYNC_JWT_ISSUER", "")]));
    assert!(told.contains("BILLSYNC_JWT_ISSUER"), "{told}");
}
