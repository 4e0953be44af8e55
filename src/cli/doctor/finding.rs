//! One thing that was looked at: how it stands, and the fix to paste.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// `settings`, `database`, `schema`, …
    pub area: &'static str,
    pub what: String,
    /// What to do about it: a command, a setting, a statement. `None` when all is well.
    pub fix: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    findings: Vec<&'a Finding>,
}

/// Of the columns before the text.
const INDENT: usize = 19;

impl Findings {
    /// As it should be.
    pub fn ok(&mut self, area: &'static str, what: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, area, what: what.into(), fix: None });
    }

    /// It works, yet probably not as meant.
    pub fn warn(&mut self, area: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, area, what: what.into(), fix: Some(fix.into()) });
    }

    /// It does not work.
    pub fn error(&mut self, area: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, area, what: what.into(), fix: Some(fix.into()) });
    }

    /// Whether something other than good was found in that area.
    pub fn has_trouble(&self, area: &str) -> bool {
        self.0.iter().any(|finding| finding.area == area && finding.level > Level::Ok)
    }

    /// How many are as bad as that.
    pub fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    /// For programs; only what is at least as bad.
    pub fn to_json(&self, least: Level) -> impl Serialize {
        Report { errors: self.count(Level::Error), warnings: self.count(Level::Warning), findings: self.shown(least) }
    }

    /// For people: a line a finding, its fix below it, a count at the end; only what is at least as bad.
    pub fn to_text(&self, least: Level) -> String {
        let mut text = String::new();
        let indent = format!("\n{:INDENT$}", "");
        for Finding { level, area, what, fix } in self.shown(least) {
            let mark = match level {
                Level::Ok => "ok",
                Level::Warning => "WARNING",
                Level::Error => "ERROR",
            };
            text.push_str(&format!("{mark:<8} {area:<9} {}\n", what.replace('\n', &indent)));
            if let Some(fix) = fix {
                text.push_str(&format!("{:INDENT$}fix: {}\n", "", fix.replace('\n', &format!("{indent}     "))));
            }
        }
        let counted = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Ok, "check")];
        let [errors, warnings, good] = counted.map(|(level, name)| {
            let count = self.count(level);
            format!("{count} {name}{}", if count == 1 { "" } else { "s" })
        });
        text.push_str(&format!("\n{errors}, {warnings}, {good} passed\n"));
        text
    }

    fn shown(&self, least: Level) -> Vec<&Finding> {
        self.0.iter().filter(|finding| finding.level >= least).collect()
    }
}
