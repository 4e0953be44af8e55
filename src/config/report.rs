//! The settings in force as `billsync config` shows them: value, source, secrets redacted.

use serde::Serialize;

use crate::config::layers::Layers;
use crate::config::secret::{DatabaseUrl, REDACTED};
use crate::config::settings::{Kind, SETTINGS, Setting};

/// The source of what nobody has set.
pub const DEFAULT_SOURCE: &str = "default";

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportLine {
    pub name: &'static str,
    /// Redacted; the default's description when it is not set.
    pub value: String,
    /// `default`, `environment`, `flag --listen` or the file's path.
    pub source: String,
    pub meaning: &'static str,
}

/// One line a setting. `effective` has the values that were decided here rather than given.
pub fn lines(layers: &Layers, effective: &[(&'static str, String)]) -> Vec<ReportLine> {
    SETTINGS.iter().map(|setting| line(setting, layers, effective)).collect()
}

fn line(setting: &'static Setting, layers: &Layers, effective: &[(&'static str, String)]) -> ReportLine {
    let decided = effective.iter().find(|(name, _)| *name == setting.name).map(|(_, value)| value.clone());
    let (value, source) = match layers.values.get(setting.name) {
        Some(given) => (show(setting.kind, &given.text), given.source.clone()),
        None => (decided.unwrap_or_else(|| setting.default.to_owned()), DEFAULT_SOURCE.to_owned()),
    };
    ReportLine { name: setting.name, value, source, meaning: setting.meaning }
}

fn show(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Plain => text.trim().to_owned(),
        Kind::Secret => REDACTED.to_owned(),
        Kind::SecretList => vec![REDACTED; text.split(',').count()].join(","),
        Kind::NamedSecretList => text.split(',').map(show_named).collect::<Vec<String>>().join(","),
        Kind::DatabaseUrl => DatabaseUrl::parse(text.trim()).map_or_else(|_| REDACTED.to_owned(), |url| url.to_string()),
    }
}

fn show_named(part: &str) -> String {
    match part.split_once(':') {
        Some((name, _)) => format!("{}:{REDACTED}", name.trim()),
        None => REDACTED.to_owned(),
    }
}
