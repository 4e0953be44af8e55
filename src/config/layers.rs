//! Where values come from: flags over the environment over the file. Unknown and repeated names are found here; what a value
//! means is not looked at.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::config::secret::DatabaseUrl;
use crate::config::settings::{Kind, Setting, closest, find};

const PASSWORD_ON_COMMAND_LINE: &str = "its password does not belong on a command line, where every account of the machine can \
    read it; use the environment, --config, or a password file (~/.pgpass)";

/// The values of all layers, the strongest per setting, and what is wrong with their names.
#[derive(Debug, Default)]
pub struct Layers {
    /// By [`Setting::name`].
    pub values: BTreeMap<&'static str, Given>,
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub struct Given {
    pub text: String,
    /// The name it was given by: the setting's, its alias, or a flag.
    pub name: String,
    /// `flag --listen`, `environment` or the file's path.
    pub source: String,
}

/// Reads every layer, the weakest first.
pub fn read(
    flags: &[(String, String, String)],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<(String, String)>,
) -> Layers {
    let mut layers = Layers::default();
    if let Some((path, text)) = file {
        layers.read_file(&path, &text);
    }
    layers.read_environment(environment);
    layers.read_flags(flags);
    layers
}

impl Layers {
    fn read_file(&mut self, path: &str, text: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                // The error's own display quotes the line, which may hold a secret.
                let (line, column) = position(text, toml_span_start(&error));
                self.problems.push(format!("{path}:{line}:{column}: not valid TOML"));
                return;
            }
        };
        let mut seen = Layers::default();
        for (key, value) in &table {
            let name = key.to_ascii_uppercase();
            let Some(setting) = find(&name).filter(|_| *key == key.to_ascii_lowercase()) else {
                let hint = closest(&name).map(|known| known.to_ascii_lowercase());
                self.problems.push(unknown(&format!("{path}: unknown setting {key}"), hint.as_deref()));
                continue;
            };
            match toml_text(value) {
                Some(text) => seen.give(setting, Given { text, name: key.clone(), source: path.to_owned() }),
                None => {
                    self.problems.push(format!("{key} ({path}): has to be a string, a number, a boolean or a list of strings"))
                }
            }
        }
        self.merge(seen);
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut seen = Layers::default();
        let mut variables: Vec<(OsString, OsString)> = environment.into_iter().collect();
        variables.sort();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let Some(setting) = find(name) else {
                self.check_unknown_variable(name);
                continue;
            };
            match value.into_string() {
                Ok(text) => seen.give(setting, Given { text, name: name.to_owned(), source: "environment".into() }),
                Err(_) => self.problems.push(format!("{name}: is not valid UTF-8")),
            }
        }
        self.merge(seen);
    }

    /// A misspelt variable of ours would silently do nothing. Others' variables are only ours to wonder about.
    fn check_unknown_variable(&mut self, name: &str) {
        let upper = name.to_ascii_uppercase();
        if upper.starts_with("BILLSYNC_") {
            self.problems.push(unknown(&format!("{name}: unknown setting"), closest(&upper)));
        } else if let Some(known) = closest(&upper).filter(|_| upper.starts_with("STRIPE_") || upper.starts_with("CLERK_")) {
            self.warnings.push(format!("{name} is not a setting of billsync: is {known} meant?"));
        }
    }

    fn read_flags(&mut self, flags: &[(String, String, String)]) {
        let mut seen = Layers::default();
        for (name, flag, value) in flags {
            let upper = name.to_ascii_uppercase();
            match find(&upper) {
                None => self.problems.push(unknown(&format!("{flag} {name}: unknown setting"), closest(&upper))),
                Some(setting) if matches!(setting.kind, Kind::Secret | Kind::SecretList | Kind::NamedSecretList) => self.problems.push(format!(
                    "{flag} {name}: a secret does not belong on a command line, where every account of the machine can read it; \
                     use the environment or --config"
                )),
                Some(setting) if setting.kind == Kind::DatabaseUrl && flag == "--set" && holds_password(value) => {
                    self.problems.push(format!("{flag} {name}: {PASSWORD_ON_COMMAND_LINE}"));
                }
                Some(setting) => {
                    if setting.kind == Kind::DatabaseUrl && holds_password(value) {
                        self.warnings.push(format!("{flag}: {PASSWORD_ON_COMMAND_LINE}"));
                    }
                    // A flag of its own wins over --set, and a later --set over an earlier one.
                    let given = Given { text: value.clone(), name: setting.name.into(), source: format!("flag {flag}") };
                    seen.values.insert(setting.name, given);
                }
            }
        }
        self.merge(seen);
    }

    fn give(&mut self, setting: &'static Setting, given: Given) {
        if let Some(other) = self.values.get(setting.name) {
            self.problems.push(format!("{} and {}: both are set, and they mean the same; unset one", other.name, given.name));
        }
        self.values.insert(setting.name, given);
    }

    fn merge(&mut self, stronger: Layers) {
        self.values.extend(stronger.values);
        self.problems.extend(stronger.problems);
        self.warnings.extend(stronger.warnings);
    }
}

fn holds_password(url: &str) -> bool {
    DatabaseUrl::parse(url.trim()).is_ok_and(|url| url.has_password())
}

fn unknown(what: &str, hint: Option<&str>) -> String {
    match hint {
        Some(known) => format!("{what}; is {known} meant?"),
        None => format!("{what}; `billsync config` lists them all"),
    }
}

fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn toml_span_start(error: &toml::de::Error) -> usize {
    error.span().map(|span| span.start).unwrap_or_default()
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}
