//! Values that must not be printed: [`Secret`] and [`DatabaseUrl`]. Their `Debug` and `Display` are redacted, so that no
//! log line, error or derived `Debug` can leak them.

use std::fmt;

use reqwest::Url;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Query parameters of a database URL that are certain to hold no secret.
const HARMLESS_PARAMETERS: [&str; 8] =
    ["host", "port", "user", "dbname", "sslmode", "application_name", "options", "statement-cache-capacity"];

/// A text that only [`Secret::expose`] shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// A `postgres://` address, shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    full: String,
    redacted: String,
}

impl DatabaseUrl {
    /// Checks the form; whether something answers there is another question. The error never names the address.
    pub fn parse(text: &str) -> Result<DatabaseUrl, String> {
        let url = Url::parse(text).map_err(|_| {
            "is not a URL of the form postgres://user:password@host:5432/database (characters such as @ : / # ? in the \
             password have to be percent-encoded)"
                .to_owned()
        })?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("has to begin with postgres:// or postgresql://".into());
        }
        if url.fragment().is_some() {
            return Err("contains a bare #: percent-encode it as %23".into());
        }
        Ok(DatabaseUrl { full: text.to_owned(), redacted: redact(&url) })
    }

    /// The address with its password, for the driver alone.
    pub fn expose(&self) -> &str {
        &self.full
    }
}

fn redact(url: &Url) -> String {
    let mut shown = format!("{}://", url.scheme());
    if !url.username().is_empty() || url.password().is_some() {
        shown.push_str(url.username());
        if url.password().is_some() {
            shown.push(':');
            shown.push_str(REDACTED);
        }
        shown.push('@');
    }
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown.push_str(url.path());
    let parameters: Vec<String> = url
        .query_pairs()
        .map(|(key, value)| {
            let value = if HARMLESS_PARAMETERS.contains(&key.as_ref()) { value.as_ref() } else { REDACTED };
            format!("{key}={value}")
        })
        .collect();
    if !parameters.is_empty() {
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}
