//! Logs and traces: where they go, in which form, and that no secret is in them. Spans of requests are made in `http`, those of
//! batches in `ingest`.

mod traces;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use thiserror::Error;
pub use traces::{Traces, ask, tell_answer};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: one coloured line.
    Pretty,
    /// For collectors: one JSON object a line.
    Json,
}

impl Format {
    /// Pretty where somebody looks on, JSON elsewhere.
    pub fn of_terminal() -> Format {
        if io::stderr().is_terminal() { Format::Pretty } else { Format::Json }
    }
}

/// Why the log could not be started.
#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("BILLSYNC_LOG is not a log filter such as `info` or `billsync=debug`")]
    Filter,
    #[error("a log is already being written")]
    AlreadyStarted,
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: traces cannot be sent: {0}")]
    Traces(String),
}

/// Starts writing the log to standard error. `filter` is that of `BILLSYNC_LOG`.
pub fn start(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt().with_env_filter(read_filter(filter)?).with_writer(Redacting);
    let started = match format {
        Format::Pretty => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|_already| TelemetryError::AlreadyStarted)
}

/// The same, and beside it sends spans. The filter is the log's alone.
pub fn start_with_traces(filter: &str, format: Format, traces: &Traces) -> Result<(), TelemetryError> {
    let (filter, lines) = (read_filter(filter)?, tracing_subscriber::fmt::layer().with_writer(Redacting));
    let log = match format {
        Format::Pretty => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    };
    let started = tracing_subscriber::registry().with(log).with(traces.layer()).try_init();
    started.map_err(|_already| TelemetryError::AlreadyStarted)
}

fn read_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    // The server's own remarks about its threads are no news to an operator, and what it calls an error is anybody's
    // garbage instead of HTTP. What stands later in a filter wins.
    EnvFilter::try_new(format!("actix_server=warn,actix_http::h1=off,actix_http::h2=off,{filter}"))
        .map_err(|_unreadable| TelemetryError::Filter)
}

/// Writes to standard error what [`redact`] leaves. The last line of defence: nothing that logs is meant to pass a secret.
#[derive(Clone, Copy, Debug)]
struct Redacting;

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Redacting;

    fn make_writer(&'a self) -> Redacting {
        Redacting
    }
}

impl Write for Redacting {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The formatter hands over a whole line at a time, so that no secret is cut in two.
        let text = String::from_utf8_lossy(line);
        io::stderr().lock().write_all(redact(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What keys of Stripe, Clerk and of webhooks begin with.
const KEY_PREFIXES: [&str; 6] = ["whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "Bearer "];

/// Replaces provider keys, webhook secrets, bearer tokens and passwords in URLs by `[redacted]`.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = Cow::Borrowed(text);
    for prefix in KEY_PREFIXES {
        if redacted.contains(prefix) {
            redacted = Cow::Owned(redact_after(&redacted, prefix));
        }
    }
    if redacted.contains("://") {
        redacted = Cow::Owned(redact_passwords(&redacted));
    }
    redacted
}

fn redact_after(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c));
        redacted.push_str(prefix);
        if rest.len() < part.len() {
            redacted.push_str("[redacted]");
        }
        redacted.push_str(rest);
    }
    redacted
}

fn redact_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        redacted.push_str("://");
        let authority_end = part.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).unwrap_or(part.len());
        let (authority, rest) = part.split_at(authority_end);
        match authority.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
            Some((user, host)) => redacted.extend([user, ":[redacted]@", host]),
            None => redacted.push_str(authority),
        }
        redacted.push_str(rest);
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_reach_the_log() {
        let cases = [
            ("secret whsec_MfKQ9r8G+/= is wrong", "secret whsec_[redacted] is wrong"),
            ("keys sk_test_abc,rk_live_d_e", "keys sk_test_[redacted],rk_live_[redacted]"),
            ("Authorization: Bearer abc-def", "Authorization: Bearer [redacted]"),
            ("at postgres://app:p@ss@db:5432/x?y", "at postgres://app:[redacted]@db:5432/x?y"),
            ("two http://a:b@c http://d:e@f/", "two http://a:[redacted]@c http://d:[redacted]@f/"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn a_line_without_a_secret_is_left_alone() {
        for text in ["listening on http://127.0.0.1:8787/healthz", "the prefix whsec_ alone", "postgres://db/app", "é 🦀 @ ://"]
        {
            assert_eq!(redact(text), text);
        }
    }
}
