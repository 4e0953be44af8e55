//! What the queries cost, as a table with verdicts and as JSON.

use serde::Serialize;

use crate::cli::bench::queries::measure::Measured;
use crate::cli::output::table;
use crate::store::SampleSet;

/// For people and as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of the program, so that a comparison knows what it compares.
    version: &'static str,
    users: u32,
    queries: Vec<Measured>,
    /// Whether every query is within its budget.
    pub is_met: bool,
}

impl Report {
    /// Judges.
    pub fn new(set: &SampleSet, queries: Vec<Measured>) -> Report {
        let is_met = queries.iter().all(|query| query.is_met);
        Report { version: env!("CARGO_PKG_VERSION"), users: set.users, queries, is_met }
    }

    /// A line a query, and below them those that are over their budget or read whole tables.
    pub fn to_text(&self) -> String {
        let mut table = table(&["query", "rows", "p50 ms", "p99 ms", "budget", "", "rows read", "plan"]);
        for query in &self.queries {
            let plan: Vec<String> = query.plans.iter().map(ToString::to_string).collect();
            let rows_read: u64 = query.plans.iter().map(|plan| plan.rows_read).sum();
            table.add_row([
                query.name.to_owned(),
                query.rows.to_string(),
                format!("{:.2}", query.milliseconds.p50),
                format!("{:.2}", query.milliseconds.p99),
                format!("{:.0}", query.budget_milliseconds),
                if query.is_met { "ok" } else { "OVER" }.to_owned(),
                rows_read.to_string(),
                query.error.clone().unwrap_or_else(|| plan.join("; ")),
            ]);
        }
        let over = self.queries.iter().filter(|query| !query.is_met).count();
        let scans = self.queries.iter().filter(|query| query.plans.iter().any(|plan| !plan.big_scans.is_empty())).count();
        let verdict = match over {
            0 => "all within their budgets".to_owned(),
            over => format!("{over} over their budget"),
        };
        let scanning = match scans {
            0 => String::new(),
            scans => format!("; {scans} read every row of a large table"),
        };
        format!("{table}\n\n{} queries on a data set of {} users: {verdict}{scanning}", self.queries.len(), self.users)
    }
}
