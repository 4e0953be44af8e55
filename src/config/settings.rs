//! The list of settings: names, defaults and meanings. What a value must look like stands in `parse`.

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Never shown, never taken from the command line.
    Secret,
    /// A comma-separated list of secrets.
    SecretList,
    /// A comma-separated list of `name:secret`.
    NamedSecretList,
    /// A database address, shown without its password.
    DatabaseUrl,
}

/// One setting. In a TOML file it has the same name in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// Another name that is accepted for it.
    pub alias: Option<&'static str>,
    pub kind: Kind,
    /// What holds when it is not set, for people.
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, alias: None, kind: Kind::Plain, default, meaning }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, alias: None, kind: Kind::Secret, default, meaning }
}

const fn database(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, alias: None, kind: Kind::DatabaseUrl, default, meaning }
}

const fn webhook_secrets(name: &'static str, alias: &'static str, meaning: &'static str) -> Setting {
    Setting { name, alias: Some(alias), kind: Kind::SecretList, default: "none: the route is not mounted", meaning }
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    database("DATABASE_URL", "embedded Postgres", "the database"),
    plain("BILLSYNC_POOLER", "none", "`transaction` behind Supavisor or pgBouncer in transaction mode"),
    database("BILLSYNC_MIGRATION_DATABASE_URL", "DATABASE_URL", "a direct connection for migrations"),
    plain("BILLSYNC_MIGRATE", "true", "whether serve migrates the schema when it starts"),
    plain("BILLSYNC_HOME", "./.billsync", "the folder of the embedded database and of generated secrets"),
    plain("BILLSYNC_POSTGRES_BIN", "looked for", "the folder with initdb and postgres for the embedded database"),
    plain("BILLSYNC_LISTEN", "127.0.0.1:8787", "the address to serve on"),
    webhook_secrets("STRIPE_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRET", "signing secrets of the Stripe endpoint, comma-separated"),
    webhook_secrets("CLERK_WEBHOOK_SECRETS", "CLERK_WEBHOOK_SECRET", "signing secrets of the Clerk endpoint, comma-separated"),
    secret("STRIPE_API_KEY", "none", "Stripe's API; its mode is the default of BILLSYNC_LIVEMODE"),
    plain("STRIPE_API_BASE", "https://api.stripe.com", "where Stripe's API is"),
    plain("BILLSYNC_STRIPE_REQUESTS_PER_SECOND", "20", "how often Stripe's API is asked at most"),
    secret("CLERK_SECRET_KEY", "none", "Clerk's API"),
    plain("CLERK_API_BASE", "https://api.clerk.com", "where Clerk's API is"),
    Setting {
        name: "BILLSYNC_API_TOKENS",
        alias: None,
        kind: Kind::NamedSecretList,
        default: "none: /v1 and /admin are not mounted",
        meaning: "name:token pairs, comma-separated, at least 32 characters a token",
    },
    plain(
        "BILLSYNC_JWT_KEYS",
        "none: no session is accepted",
        "public keys of session tokens: a JWK set's URL, or a file or text with PEM or JWKs",
    ),
    plain("BILLSYNC_JWT_ISSUER", "none", "the `iss` of session tokens; needed with BILLSYNC_JWT_KEYS"),
    plain("BILLSYNC_JWT_AUTHORIZED_PARTIES", "any", "the `azp` of session tokens that are accepted, comma-separated"),
    plain("BILLSYNC_LIVEMODE", "the mode of STRIPE_API_KEY, else any", "which of Stripe's modes is ours: live, test or any"),
    plain("BILLSYNC_LINK_BY_PAYMENT_LINK", "false", "whether a Payment Link's client_reference_id may link a customer"),
    plain("BILLSYNC_LINK_BY_VERIFIED_EMAIL", "false", "whether a verified address may link a customer"),
    plain("BILLSYNC_LINK_METADATA_KEYS", "clerk_user_id,clerkUserId", "metadata keys that hold a Clerk user id"),
    plain("BILLSYNC_UNMAPPED_PLAN", "free", "the plan of a live subscription whose price is in no plan"),
    plain("BILLSYNC_SIGNATURE_TOLERANCE_SECONDS", "300", "how far a signature's time may be from ours"),
    plain("BILLSYNC_BODY_LIMIT_BYTES", "2097152", "the largest body that is read"),
    plain("BILLSYNC_QUEUE_EVENTS", "1024", "how many events may wait before senders are told to come back"),
    plain("BILLSYNC_LEDGER_RETENTION_DAYS", "0 (for ever)", "how long payloads are kept"),
    plain(
        "BILLSYNC_LOG",
        "info; warn for commands that end by themselves",
        "what is logged: a level, or a list such as info,billsync=debug",
    ),
    plain("BILLSYNC_LOG_FORMAT", "pretty on a terminal, else json", "how log lines are written"),
    plain("OTEL_EXPORTER_OTLP_ENDPOINT", "none", "the collector that traces of serve are sent to, by OTLP over HTTP"),
];

/// The setting of that name or alias, in upper case.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name || s.alias == Some(name))
}

/// The known name that `name` was probably meant to be.
pub fn closest(name: &str) -> Option<&'static str> {
    let names = SETTINGS.iter().flat_map(|s| [Some(s.name), s.alias]).flatten();
    names
        .map(|known| (edit_distance(name, known), known))
        .filter(|&(distance, known)| distance * 4 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// The number of single-character edits between two texts (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((cb, diagonal), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
