//! What mends one difference: a step of a script that is run from its first line to its last.

use serde::Serialize;

/// When a step comes: whatever stands in the way goes first, what relies on everything else comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Rename,
    Release,
    Create,
    Convert,
    Fill,
    Keys,
    /// Keys that a row need not have: rows that others move out of the way are gone by then.
    LooseKeys,
    Checks,
    ForeignKeys,
    Restore,
}

/// A difference, and the SQL that mends it.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    #[serde(skip)]
    pub(super) phase: Phase,
    pub table: String,
    /// `column email`, `constraint users_pkey`, …
    pub what: String,
    pub found: String,
    pub expected: String,
    /// To be run in the order of the differences.
    pub sql: String,
    /// Rows in the way of the SQL, and what it does with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    #[serde(skip)]
    pub(super) guard: Option<Guard>,
}

/// Rows that would stop a step or lose a value in it.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// What `count_sql` calls.
    pub function: Option<String>,
    pub count_sql: String,
    /// What the step begins with if there are any; `None`: nobody but a person can say.
    pub sql: Option<String>,
    /// What there are so many of.
    pub rows: String,
}

impl Difference {
    pub(super) fn new(phase: Phase, table: &str, what: impl Into<String>) -> Difference {
        Difference {
            phase,
            table: table.to_owned(),
            what: what.into(),
            found: String::new(),
            expected: String::new(),
            sql: String::new(),
            rows: None,
            guard: None,
        }
    }

    pub(super) fn found(self, found: impl Into<String>) -> Difference {
        Difference { found: found.into(), ..self }
    }

    pub(super) fn expected(self, expected: impl Into<String>) -> Difference {
        Difference { expected: expected.into(), ..self }
    }

    pub(super) fn sql(self, sql: impl Into<String>) -> Difference {
        Difference { sql: sql.into(), ..self }
    }

    pub(super) fn guarded(self, guard: Option<Guard>) -> Difference {
        Difference { guard, ..self }
    }

    /// Takes in how many rows are in the way.
    pub(super) fn note_rows(&mut self, count: i64) {
        let Some(guard) = self.guard.take().filter(|_| count > 0) else { return };
        self.rows = Some(format!("{count} {}", guard.rows));
        match guard.sql {
            Some(first) => self.sql = format!("{first}\n{}", self.sql),
            None => {
                self.sql = self.sql.lines().fold(String::new(), |text, line| format!("{text}-- {line}\n")).trim_end().to_owned()
            }
        }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    pub differences: Vec<Difference>,
    /// What is more than ours and does no harm: it stays as it is.
    pub harmless: Vec<String>,
}

impl Comparison {
    /// All of the SQL, as one transaction; empty without differences. What is said of each difference stands in comments.
    pub fn script(&self) -> String {
        if self.differences.is_empty() {
            return String::new();
        }
        let mut script = String::from("begin;\n");
        for difference in &self.differences {
            let Difference { table, what, found, expected, sql, rows, .. } = difference;
            let line = |text: &str| text.replace(['\n', '\r'], " ");
            script.push_str(&format!("\n-- {}, {}: {}; should be: {}\n", line(table), line(what), line(found), line(expected)));
            if let Some(rows) = rows {
                script.push_str(&format!("-- {}\n", line(rows)));
            }
            script.push_str(sql);
            script.push('\n');
        }
        script.push_str("\ncommit;\n");
        script
    }
}
