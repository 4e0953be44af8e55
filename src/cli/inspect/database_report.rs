//! The database as a whole: what is large, what is missing, what should not be there. A part that cannot be read is told
//! as that, beside the others.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cli::inspect::index_lines::{IndexLine, UnusedIndex, list_faulty, list_leftovers, list_unused};
use crate::cli::output::{table, time};
use crate::store::{
    DatabaseSize, ExpectedSchema, OwnerWithoutUser, StatementCost, Store, StoreError, Stray, TableName, TableSize,
};

/// As many owners without users are named.
const SHOWN_OWNERS: i64 = 20;
/// An unused index of ours is told by name from this size on.
const TOLD_BYTES: i64 = 1 << 20;
/// As many statements are told.
const SHOWN_STATEMENTS: i64 = 10;
/// What keeps account of statements, and how to have it.
const NO_STATEMENTS: &str = "pg_stat_statements is not installed, so nobody keeps account of statements: add it to \
    shared_preload_libraries, restart the server, and run `create extension pg_stat_statements;`";

/// Everything that is told of the database.
#[derive(Debug, Default, Serialize)]
pub struct DatabaseReport {
    pub database: Option<DatabaseSize>,
    pub tables: Vec<TableSize>,
    pub missing_tables: Vec<TableName>,
    pub tables_without_row_security: Vec<String>,
    pub faulty_indexes: Vec<IndexLine>,
    /// Invalid ones that no migration makes.
    pub leftover_indexes: Vec<IndexLine>,
    pub unused_indexes: Vec<UnusedIndex>,
    pub users_without_rows: Vec<Stray>,
    pub orphans: Vec<Stray>,
    pub owners_without_users: Owners,
    /// Those that took most time in all; `null` when nobody keeps account of them.
    pub slowest_statements: Option<Vec<StatementCost>>,
    /// Parts that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Of whom something is stored without a user to show it.
#[derive(Debug, Default, Serialize)]
pub struct Owners {
    /// Linked to a Clerk id that has no row in `users`.
    pub count: i64,
    /// Customers with objects, and without any link.
    pub customers_of_nobody: i64,
    pub newest: Vec<OwnerWithoutUser>,
}

/// A part of the report that is missing.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    pub part: &'static str,
    pub why: String,
}

impl DatabaseReport {
    /// Reads every part. `expected` is what the migrations make that have run here.
    pub async fn read(store: &Store, expected: &ExpectedSchema) -> DatabaseReport {
        let mut report = DatabaseReport::default();
        report.database = report.take("database", store.describe_database().await.map(Some));
        report.tables = report.take("tables", store.list_tables(expected).await);
        let unprotected = report.take("row-level security", store.list_unprotected_tables(expected).await);
        report.tables_without_row_security = unprotected.into_iter().map(|table| table.name).collect();
        let state = report.take("indexes", store.find_index_state(expected).await.map(Some));
        if let Some(state) = state {
            report.faulty_indexes = list_faulty(&state);
            report.leftover_indexes = list_leftovers(&state);
            report.unused_indexes = list_unused(&state, expected);
            report.missing_tables = state.missing_tables;
        }
        report.users_without_rows = report.take("users without their rows", store.list_rowless_users().await);
        report.orphans = report.take("orphans", store.list_orphans().await);
        let payloads = report.take("payloads without event", store.list_stray_payloads().await);
        report.orphans.extend(payloads);
        let (count, customers_of_nobody) = report.take("owners without users", store.count_owners_without_users().await);
        let newest = report.take("owners without users", store.list_owners_without_users(SHOWN_OWNERS).await);
        report.owners_without_users = Owners { count, customers_of_nobody, newest };
        report.slowest_statements = report.take("slowest statements", store.list_statement_costs(SHOWN_STATEMENTS).await);
        report
    }

    fn take<T: Default>(&mut self, part: &'static str, read: Result<T, StoreError>) -> T {
        read.unwrap_or_else(|error| {
            self.unreadable.push(Unreadable { part, why: error.to_string() });
            T::default()
        })
    }

    /// The report as text.
    pub fn to_text(&self) -> String {
        let parts = [
            self.heading(),
            self.tables_text(),
            self.security_text(),
            self.indexes_text(),
            self.unused_text(),
            strays("Users without their five rows", "every user has all five rows", &self.users_without_rows),
            strays("Orphans", "no row refers to one that is not there", &self.orphans),
            self.owners_text(),
            self.statements_text(),
            self.unreadable_text(),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<String>>().join("\n\n")
    }

    fn can_read(&self, part: &str) -> bool {
        self.unreadable.iter().all(|unreadable| unreadable.part != part)
    }

    fn heading(&self) -> String {
        let Some(database) = &self.database else { return String::new() };
        let since = match database.statistics_since {
            Some(at) => format!("since {} UTC", time(Some(at))),
            None => "since it was made".to_owned(),
        };
        format!("Database {}: PostgreSQL {}, {}; use is counted {since}", database.name, database.version, size(database.bytes))
    }

    fn tables_text(&self) -> String {
        if self.tables.is_empty() {
            return String::new();
        }
        let mut shown = table(&["table", "rows", "size", "heap", "indexes", "dead rows", "partitions", ""]);
        for line in &self.tables {
            let rows = line.rows.map_or_else(|| format!("~{}", line.rows_estimate), |rows| rows.to_string());
            let partitions = if line.partitions > 0 { line.partitions.to_string() } else { String::new() };
            shown.add_row([
                format!("{}.{}", line.schema_name, line.name),
                rows,
                size(line.total_bytes),
                size(line.heap_bytes),
                size(line.index_bytes),
                line.dead_rows.to_string(),
                partitions,
                if line.is_ours { String::new() } else { "not billsync's".to_owned() },
            ]);
        }
        let missing: Vec<String> = self.missing_tables.iter().map(|table| format!("\nMissing: {table}")).collect();
        format!("Tables\n{}{}", align_right(shown, 1..=6), missing.concat())
    }

    fn security_text(&self) -> String {
        if !self.can_read("row-level security") {
            return String::new();
        }
        if self.tables_without_row_security.is_empty() {
            return "Row-level security: on for every table.".to_owned();
        }
        let fixes =
            self.tables_without_row_security.iter().map(|name| format!("\n  alter table {name} enable row level security;"));
        format!("Row-level security is off on {} tables:{}", self.tables_without_row_security.len(), fixes.collect::<String>())
    }

    fn indexes_text(&self) -> String {
        if !self.can_read("indexes") {
            return String::new();
        }
        let lines: Vec<&IndexLine> = self.faulty_indexes.iter().chain(&self.leftover_indexes).collect();
        if lines.is_empty() {
            return "Indexes: every one that the migrations make is there, and valid.".to_owned();
        }
        let mut shown = table(&["index", "table", "is", "definition"]);
        for line in &lines {
            shown.add_row([line.index.clone(), line.table.clone(), line.fault.words().to_owned(), line.definition.clone()]);
        }
        format!(
            "Indexes that are not as the migrations make them\n{shown}{}",
            fixes(lines.iter().filter_map(|line| line.fix.as_deref()))
        )
    }

    fn unused_text(&self) -> String {
        if !self.can_read("indexes") {
            return String::new();
        }
        if self.unused_indexes.is_empty() {
            return "Unused indexes: none.".to_owned();
        }
        let (small, others): (Vec<&UnusedIndex>, Vec<&UnusedIndex>) =
            self.unused_indexes.iter().partition(|line| line.is_of_migrations && line.bytes < TOLD_BYTES);
        let mut text = "Unused indexes: never read while use was counted".to_owned();
        if !others.is_empty() {
            let mut shown = table(&["index", "table", "size", "made by"]);
            for line in others {
                let maker =
                    if line.is_of_migrations { "a migration: keep it" } else { "somebody else: drop it if nobody misses it" };
                shown.add_row([line.index.clone(), line.table.clone(), size(line.bytes), maker.to_owned()]);
            }
            text = format!("{text}\n{}", align_right(shown, 2..=2));
        }
        if !small.is_empty() {
            let bytes = small.iter().map(|line| line.bytes).sum();
            text = format!(
                "{text}\n{} small ones of the migrations ({} in all): keep them, their use will come.",
                small.len(),
                size(bytes)
            );
        }
        text
    }

    fn owners_text(&self) -> String {
        let Owners { count, customers_of_nobody, newest } = &self.owners_without_users;
        if !self.can_read("owners without users") {
            return String::new();
        }
        let nobodys = format!("Customers with objects that nobody is linked to: {customers_of_nobody}.");
        if newest.is_empty() {
            return format!("Owners without users: none.\n{nobodys}");
        }
        let mut shown = table(&["owner", "Clerk id", "linked by", "newest event"]);
        for owner in newest {
            let linked_by = owner.linked_by.clone().unwrap_or_default();
            shown.add_row([owner.owner_id.clone(), owner.clerk_user_id.clone(), linked_by, time(owner.newest_at)]);
        }
        let example = newest.first().map(|owner| owner.clerk_user_id.as_str()).unwrap_or_default();
        format!("Owners without users: {count}, the newest are\n{shown}\nfix: billsync users ensure {example}\n{nobodys}")
    }

    fn statements_text(&self) -> String {
        if !self.can_read("slowest statements") {
            return String::new();
        }
        let Some(statements) = &self.slowest_statements else { return format!("Slowest statements: {NO_STATEMENTS}.") };
        if statements.is_empty() {
            return "Slowest statements: none has been counted yet.".to_owned();
        }
        let mut shown = table(&["total ms", "calls", "mean ms", "rows", "statement"]);
        for cost in statements {
            shown.add_row([
                format!("{:.0}", cost.total_ms),
                cost.calls.to_string(),
                format!("{:.2}", cost.mean_ms),
                cost.rows.to_string(),
                one_line(&cost.query),
            ]);
        }
        format!("Slowest statements, by the time that all their calls took\n{}", align_right(shown, 0..=3))
    }

    fn unreadable_text(&self) -> String {
        let lines = self.unreadable.iter().map(|it| format!("Could not be read: {}: {}", it.part, it.why));
        lines.collect::<Vec<String>>().join("\n")
    }
}

/// Each fix once, a line each.
fn fixes<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let distinct: BTreeSet<&str> = all.into_iter().collect();
    distinct.into_iter().map(|fix| format!("\nfix: {fix}")).collect()
}

fn strays(heading: &str, when_none: &str, strays: &[Stray]) -> String {
    if strays.is_empty() {
        return format!("{heading}: {when_none}.");
    }
    let mut shown = table(&["table", "rows", "what", "for example"]);
    for stray in strays {
        shown.add_row([stray.relation.clone(), stray.rows.to_string(), stray.what.clone(), stray.examples.join(", ")]);
    }
    format!("{heading}\n{}{}", align_right(shown, 1..=1), fixes(strays.iter().map(|stray| stray.fix.as_str())))
}

fn align_right(mut shown: comfy_table::Table, columns: std::ops::RangeInclusive<usize>) -> comfy_table::Table {
    for column in columns {
        if let Some(column) = shown.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    shown
}

/// Statements are written over many lines; a table has one.
fn one_line(query: &str) -> String {
    const SHOWN: usize = 200;
    let line = query.split_whitespace().collect::<Vec<&str>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Bytes in the unit that a person would choose.
pub fn size(bytes: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_statements_are_shortened() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(8192), "8.0 kB");
        assert_eq!(size((3 << 30) / 2), "1.5 GB");
        assert_eq!(one_line("select\n  1"), "select 1");
        assert_eq!(one_line(&"é".repeat(300)).chars().count(), 201);
    }
}
