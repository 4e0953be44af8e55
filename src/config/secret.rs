//! Values that must not be printed: [`Secret`] and [`DatabaseUrl`]. Their `Debug` and `Display` are redacted, so that no
//! log line, error or derived `Debug` can leak them.

use std::fmt;
use std::net::IpAddr;

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
    has_password: bool,
}

impl DatabaseUrl {
    /// Checks the form; whether something answers there is another question. The error never names the address.
    pub fn parse(text: &str) -> Result<DatabaseUrl, String> {
        let full = with_named_host(text);
        let url = Url::parse(&full).map_err(|_| {
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
        let redacted = redact(&url);
        Ok(DatabaseUrl { has_password: has_password(&url), redacted, full })
    }

    /// Whether it holds a secret.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether the server is on this machine: its address is of the loopback, or a socket.
    pub fn is_local(&self) -> bool {
        let is_loopback = |host: &str| {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            host == "localhost" || host.starts_with('/') || address.is_ok_and(|address| address.is_loopback())
        };
        let Ok(url) = Url::parse(&self.full) else { return false };
        let named = url.query_pairs().find(|(key, _)| key == "host").map(|(_, host)| host.into_owned());
        named.or_else(|| url.host_str().map(str::to_owned)).is_some_and(|host| is_loopback(&host))
    }

    /// The address with its password, for the driver alone.
    pub fn expose(&self) -> &str {
        &self.full
    }
}

/// libpq lets `postgres://user@/db?host=/folder` name its socket in the query alone, which is no URL for anybody else: the
/// host before the path is then a placeholder.
fn with_named_host(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let names_host = tail.split(['?', '&']).any(|parameter| parameter.starts_with("host="));
    if names_host && (authority.ends_with('@') || authority.contains("@:")) {
        let (login, port) = authority.rsplit_once('@').unwrap_or((authority, ""));
        return format!("{scheme}://{login}@localhost{port}{tail}");
    }
    text.to_owned()
}

fn has_password(url: &Url) -> bool {
    url.password().is_some() || url.query_pairs().any(|(key, _)| key.contains("password"))
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

#[cfg(test)]
mod tests {
    use super::DatabaseUrl;

    #[test]
    fn a_server_is_on_this_machine_if_its_address_is() {
        for (local, address) in [
            (true, "postgres://u@localhost/db"),
            (true, "postgres://u@127.0.0.1:5433/db"),
            (true, "postgres://u@[::1]/db"),
            (true, "postgres://u@/db?host=/run/postgresql"),
            (false, "postgres://u@db.example.com/db?host=10.0.0.7"),
            (false, "postgres://u@db.example.com/db"),
            (false, "postgres://u@10.0.0.7/db"),
        ] {
            assert_eq!(DatabaseUrl::parse(address).unwrap().is_local(), local, "{address}");
        }
    }
}
