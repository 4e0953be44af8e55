//! Compares an existing schema with ours: tables and columns here, what binds them in `constraints`. What the service itself
//! adds may be missing, for the migrations add it; but where it is there it has to be as they would make it.

use crate::domain::user_profile::Mapping;
use crate::store::baseline::conversion::{convert, quote};
use crate::store::baseline::schema::{Column, Relation, Schema};
use crate::store::baseline::step::{Comparison, Difference, Guard, Phase};

/// How a table's columns have been called elsewhere, where that cannot mean anything else.
const OTHER_NAMES: [(&str, &str, &[&str]); 1] = [("users", "user_id", &["clerk_id", "clerk_user_id"])];

/// The one table of the older layout.
const PROFILES: &str = "user_profiles";

/// What keeps the old value of a column whose new type cannot say it.
pub(super) const ASIDE_SUFFIX: &str = "_before_billsync";

/// Our schema as the migrations make it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The application's tables alone, before the service adds to them.
    pub application: Schema,
    pub complete: Schema,
}

/// Everything that is compared, and what was found so far.
pub(super) struct Comparing<'a> {
    pub theirs: Schema,
    pub expected: &'a Expected,
    pub comparison: Comparison,
    /// Table and column of every type that changes: what refers to them has to let go meanwhile.
    pub retyped: Vec<(String, String)>,
}

/// Compares. `is_complete`: what the service adds has to be there, too.
pub(super) fn compare(theirs: Schema, expected: &Expected, is_complete: bool) -> Comparison {
    let mut comparing = Comparing { theirs, expected, comparison: Comparison::default(), retyped: Vec::new() };
    let schema = if is_complete { &expected.complete } else { &expected.application };
    comparing.rename_tables(schema);
    for (name, ours) in &schema.relations {
        comparing.compare_table(name, ours);
        if comparing.theirs.relations.contains_key(name) {
            comparing.compare_columns(name, ours);
        }
    }
    comparing.compare_additions();
    comparing.compare_constraints(schema);
    comparing.release_retyped();
    comparing.note_harmless();
    let mut comparison = comparing.comparison;
    comparison.differences.sort_by_key(|difference| difference.phase);
    comparison
}

/// Whether any table is there that is ours, whatever it is called, or that ours are filled from.
pub(super) fn is_anything_there(theirs: &Schema, expected: &Expected) -> bool {
    theirs
        .relations
        .keys()
        .map(|name| snake_case(name))
        .any(|name| name == PROFILES || expected.application.relations.contains_key(&name))
}

/// A default that calls a function of ours cannot be there before the migrations are.
fn is_our_own(default: &str) -> bool {
    default.contains("billsync.")
}

/// What one may write for the same default.
fn same_default(theirs: &str, ours: &str) -> bool {
    let now = |text: &str| matches!(text, "now()" | "CURRENT_TIMESTAMP" | "transaction_timestamp()");
    theirs == ours || (now(theirs) && now(ours)) || (is_our_own(ours) && theirs.contains("uuid"))
}

/// The default that SQL can set before the migrations have run.
fn default_sql(default: &str) -> &str {
    if is_our_own(default) { "gen_random_uuid()" } else { default }
}

/// `cardLast4` and `CardLast4` as `card_last_4`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut before = '_';
    for c in name.chars() {
        let begins_word = c.is_uppercase() || (c.is_ascii_digit() && !before.is_ascii_digit());
        if begins_word && before != '_' && !(c.is_uppercase() && before.is_uppercase()) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        before = c;
    }
    snake
}

impl Comparing<'_> {
    pub(super) fn add(&mut self, difference: Difference) {
        self.comparison.differences.push(difference);
    }

    /// A table that is called otherwise, as some tools do, is the same table.
    fn rename_tables(&mut self, schema: &Schema) {
        for name in schema.relations.keys() {
            if self.theirs.relations.contains_key(name) {
                continue;
            }
            let is_same = |other: &&String| snake_case(other) == *name && !schema.relations.contains_key(*other);
            let Some(other) = self.theirs.relations.keys().find(is_same).cloned() else { continue };
            self.theirs.rename(&other, name);
            let sql = format!("alter table public.{} rename to {name};", quote(&other));
            self.add(
                Difference::new(Phase::Rename, name, "table").found(format!("called {other}")).expected(name.as_str()).sql(sql),
            );
        }
    }

    fn compare_table(&mut self, name: &str, ours: &Relation) {
        match self.theirs.relations.get(name) {
            None => self.create_table(name, ours),
            Some(theirs) if !theirs.is_table() => {
                let kind = match theirs.kind.as_str() {
                    "m" => "materialized view",
                    "f" => "foreign table",
                    _ => "view",
                };
                let sql = format!("alter {kind} public.{name} rename to {name}{ASIDE_SUFFIX};");
                self.add(Difference::new(Phase::Rename, name, "table").found(format!("a {kind}")).expected("a table").sql(sql));
                self.theirs.relations.remove(name);
                self.create_table(name, ours);
            }
            Some(theirs) if !theirs.is_ours => {
                let found = format!("owned by {}", theirs.owner);
                let difference =
                    Difference::new(Phase::Release, name, "owner").found(found).expected("the role of this connection");
                self.add(difference.sql(format!("alter table public.{name} owner to current_user;")));
            }
            Some(_) => {}
        }
    }

    fn create_table(&mut self, name: &str, ours: &Relation) {
        let columns: Vec<String> = ours.columns.iter().map(|column| format!("    {}", define(column))).collect();
        // Whatever default privileges give away is taken back by the adoption; until then nobody is to read it.
        let guarded = format!("alter table public.{name} enable row level security;");
        let sql = format!("create table public.{name} (\n{}\n);\n{guarded}", columns.join(",\n"));
        let created = Difference::new(Phase::Create, name, "table").found("missing").expected("there").sql(sql);
        self.add(created);
        if name == "users" {
            self.seed_users();
        }
    }

    /// In the older layout other tables refer to `user_profiles`: its ids have to go on meaning the same users.
    fn seed_users(&mut self) {
        let Some(profiles) = self.theirs.relations.get(PROFILES).filter(|profiles| profiles.is_table()) else { return };
        let names: Vec<String> = profiles.columns.iter().map(|column| column.name.clone()).collect();
        let Some(user_id) = Mapping::of(&names).column("user_id").map(quote) else { return };
        let id_type = self.expected.application.relations.get("users").and_then(|users| users.column("id"));
        let id = match (profiles.column("id").filter(|_| user_id != "id"), id_type) {
            (Some(id), Some(ours)) if id.type_name == ours.type_name => quote(&id.name),
            (Some(id), Some(ours)) => convert(id, ours).expression,
            _ => "gen_random_uuid()".to_owned(),
        };
        let sql = format!(
            "insert into public.users (id, user_id) select distinct on ({user_id}) {id}, {user_id} from public.{PROFILES} \
             where {user_id}::text like 'user\\_%' order by {user_id};"
        );
        let difference = Difference::new(Phase::Fill, "users", "rows").found(format!("in {PROFILES}"));
        self.add(difference.expected("there, by the same ids; `billsync import user-profiles` fills them").sql(sql));
    }

    fn compare_columns(&mut self, table: &str, ours: &Relation) {
        self.rename_columns(table, ours);
        for column in &ours.columns {
            self.compare_column(table, column);
        }
    }

    fn rename_columns(&mut self, table: &str, ours: &Relation) {
        for column in &ours.columns {
            let others = OTHER_NAMES.iter().find(|(of, name, _)| (*of, *name) == (table, column.name.as_str())).map(|o| o.2);
            let Some(theirs) = self.theirs.relations.get_mut(table) else { return };
            if theirs.column(&column.name).is_some() {
                continue;
            }
            let is_same = |other: &&Column| {
                let snake = snake_case(&other.name);
                ours.column(&other.name).is_none()
                    && (snake == column.name || others.is_some_and(|o| o.contains(&snake.as_str())))
            };
            let Some(other) = theirs.columns.iter().find(is_same).map(|other| other.name.clone()) else { continue };
            for known in theirs.columns.iter_mut().filter(|known| known.name == other) {
                known.name.clone_from(&column.name);
            }
            self.rename_in_keys(table, &other, &column.name);
            let sql = format!("alter table public.{table} rename column {} to {};", quote(&other), column.name);
            let what = format!("column {}", column.name);
            self.add(
                Difference::new(Phase::Rename, table, what).found(format!("called {other}")).expected(&*column.name).sql(sql),
            );
        }
    }

    /// Constraints and indexes follow a column that is renamed.
    fn rename_in_keys(&mut self, table: &str, old: &str, new: &str) {
        let replace = |columns: &mut Vec<String>| {
            for column in columns.iter_mut().filter(|column| *column == old) {
                new.clone_into(column);
            }
        };
        let reword = |text: &mut String| *text = text.replace(&quote(old), &quote(new));
        let outside = self.theirs.from_outside.iter_mut();
        let inside = self.theirs.relations.values_mut().flat_map(|relation| &mut relation.constraints);
        for constraint in inside.chain(outside) {
            if constraint.relation == table {
                replace(&mut constraint.columns);
                reword(&mut constraint.definition);
            }
            if constraint.refers_to.as_deref() == Some(table) && constraint.refers_to_columns.iter().any(|column| column == old) {
                replace(&mut constraint.refers_to_columns);
                reword(&mut constraint.definition);
            }
        }
        for index in self.theirs.relations.get_mut(table).into_iter().flat_map(|relation| &mut relation.indexes) {
            replace(&mut index.columns);
            reword(&mut index.definition);
        }
        for dependent in self.theirs.dependents.iter_mut().filter(|dependent| dependent.relation == table) {
            if dependent.column_name == old {
                new.clone_into(&mut dependent.column_name);
            }
        }
    }

    fn compare_column(&mut self, table: &str, ours: &Column) {
        let what = format!("column {}", ours.name);
        let theirs = self.theirs.relations.get(table).and_then(|relation| relation.column(&ours.name)).cloned();
        let Some(theirs) = theirs else {
            return self.add_column(table, ours);
        };
        let (on, name) = (format!("alter table public.{table} alter column"), quote(&ours.name));
        if theirs.is_generated {
            let sql = format!("{on} {name} drop expression;");
            self.add(Difference::new(Phase::Release, table, &*what).found("generated").expected("written").sql(sql));
        }
        if theirs.is_identity {
            let sql = format!("{on} {name} drop identity;");
            self.add(Difference::new(Phase::Release, table, &*what).found("an identity").expected(define(ours)).sql(sql));
        }
        let is_retyped = theirs.type_name != ours.type_name;
        if is_retyped {
            self.convert_column(table, &theirs, ours);
        }
        self.compare_default(table, &theirs, ours, is_retyped);
        match (ours.not_null, theirs.not_null) {
            (true, false) => self.fill_column(table, ours),
            (false, true) => {
                let sql = format!("{on} {name} drop not null;");
                self.add(Difference::new(Phase::Release, table, what).found("not null").expected("nullable").sql(sql));
            }
            // A value that the new type cannot say is NULL for a moment.
            (true, true) if is_retyped && convert(&theirs, ours).may_lose => {
                let sql = format!("{on} {name} drop not null;");
                self.add(Difference::new(Phase::Release, table, what).found("not null").expected("nullable meanwhile").sql(sql));
                self.fill_column(table, ours);
            }
            _ => {}
        }
    }

    fn add_column(&mut self, table: &str, ours: &Column) {
        let sql = format!("alter table public.{table} add column {};", define(&Column { not_null: false, ..ours.clone() }));
        let what = format!("column {}", ours.name);
        self.add(Difference::new(Phase::Create, table, what).found("missing").expected(define(ours)).sql(sql));
        if ours.not_null {
            self.fill_column(table, ours);
        }
    }

    fn convert_column(&mut self, table: &str, theirs: &Column, ours: &Column) {
        self.retyped.push((table.to_owned(), ours.name.clone()));
        let conversion = convert(theirs, ours);
        let name = quote(&ours.name);
        let mut sql = String::new();
        if let Some(function) = &conversion.function {
            sql.push_str(function);
            sql.push('\n');
        }
        if theirs.default_value.is_some() {
            sql.push_str(&format!("alter table public.{table} alter column {name} drop default;\n"));
        }
        let expression = &conversion.expression;
        sql.push_str(&format!(
            "alter table public.{table} alter column {name} type {} using {expression};",
            short(&ours.type_name)
        ));
        let guard = conversion.may_lose.then(|| {
            let (aside, lost) =
                (format!("{}{ASIDE_SUFFIX}", ours.name), format!("{name} is not null and ({expression}) is null"));
            let keep = format!(
                "alter table public.{table} add column {} {};\nupdate public.{table} set {} = {name} where {lost};",
                quote(&aside),
                theirs.type_name,
                quote(&aside)
            );
            Guard {
                function: conversion.function.clone(),
                count_sql: format!("select count(*) from public.{table} where {lost}"),
                sql: Some(conversion.function.iter().map(|f| format!("{f}\n")).chain([keep]).collect()),
                rows: format!("values cannot be of that type: they become NULL and stay readable in column {aside}"),
            }
        });
        let difference = Difference::new(Phase::Convert, table, format!("column {}", ours.name)).found(&*theirs.type_name);
        self.add(difference.expected(&*ours.type_name).sql(sql).guarded(guard));
    }

    fn compare_default(&mut self, table: &str, theirs: &Column, ours: &Column, is_retyped: bool) {
        let (on, name) = (format!("alter table public.{table} alter column"), quote(&ours.name));
        let difference = |phase, found: &str, expected: &str, sql| {
            Difference::new(phase, table, format!("default of {}", ours.name)).found(found).expected(expected).sql(sql)
        };
        let found = if theirs.is_generated || theirs.is_identity { None } else { theirs.default_value.as_deref() };
        match (&ours.default_value, found) {
            (Some(expected), found) if is_retyped || !found.is_some_and(|found| same_default(found, expected)) => {
                let sql = format!("{on} {name} set default {};", default_sql(expected));
                self.add(difference(Phase::Fill, found.unwrap_or("none"), default_sql(expected), sql));
            }
            (None, Some(found)) if !is_retyped => {
                self.add(difference(Phase::Release, found, "none", format!("{on} {name} drop default;")));
            }
            _ => {}
        }
    }

    /// Makes a column NOT NULL, with a value for the rows that have none.
    fn fill_column(&mut self, table: &str, ours: &Column) {
        let name = quote(&ours.name);
        let is_text = ours.type_name == "text" || ours.type_name.starts_with("character varying");
        let is_key = self.expected.application.relations.get(table).is_some_and(|relation| {
            relation.constraints.iter().any(|constraint| constraint.kind != "c" && constraint.columns.contains(&ours.name))
        });
        let value = match &ours.default_value {
            Some(default) => Some(default_sql(default)),
            None if is_text && !is_key => Some("''"),
            None => None,
        };
        let set = format!("alter table public.{table} alter column {name} set not null;");
        let difference = Difference::new(Phase::Fill, table, format!("column {}", ours.name));
        let difference = difference.found("nullable").expected("not null");
        if let Some(value) = value {
            let sql = format!("update public.{table} set {name} = {value} where {name} is null;\n{set}");
            return self.add(difference.sql(sql));
        }
        // A column that is still to be added is NULL in every row.
        let exists = self.theirs.relations.get(table).is_some_and(|theirs| theirs.column(&ours.name).is_some());
        let condition = if exists { format!("t.{name} is null") } else { "true".to_owned() };
        let is_referred_to = self.is_referred_to(table);
        let guard = Guard {
            function: None,
            count_sql: format!("select count(*) from public.{table} t where {condition}"),
            sql: (!is_referred_to).then(|| set_aside(table, &format!("t.{name} is null"))),
            rows: if is_referred_to {
                format!("rows have no {}, and others refer to them: a person has to decide", ours.name)
            } else {
                format!("rows have no {}: they are moved to public.{table}{ASIDE_SUFFIX}", ours.name)
            },
        };
        self.add(difference.sql(set).guarded(Some(guard)));
    }

    /// Columns and indexes that the migrations add where they are missing.
    fn compare_additions(&mut self) {
        let expected = self.expected;
        for (name, complete) in &expected.complete.relations {
            let Some(theirs) = self.theirs.relations.get(name) else { continue };
            let base = expected.application.relations.get(name);
            let is_added = |column: &&Column| base.is_none_or(|base| base.column(&column.name).is_none());
            let present: Vec<&Column> =
                complete.columns.iter().filter(is_added).filter(|column| theirs.column(&column.name).is_some()).collect();
            for column in present {
                self.compare_column(name, column);
            }
            for index in complete.indexes.iter().filter(|index| !index.of_constraint) {
                let same_name = self.theirs.relations.iter().find_map(|(table, relation)| {
                    relation.indexes.iter().find(|other| other.name == index.name).map(|other| (table, other))
                });
                let Some((table, other)) = same_name else { continue };
                if table == name && other.shape() == index.shape() && other.is_valid {
                    continue;
                }
                let found = format!("{} on {table}{}", other.shape().1, if other.is_valid { "" } else { ", not valid" });
                let sql = format!("drop index public.{};", quote(&index.name));
                let difference = Difference::new(Phase::Release, table, format!("index {}", index.name)).found(found);
                self.add(difference.expected(format!("{}, made by the migrations", index.shape().1)).sql(sql));
            }
        }
    }

    /// What is more than ours: it stays, unless it keeps rows from being inserted.
    fn note_harmless(&mut self) {
        let complete = &self.expected.complete.relations;
        let mut notes = Vec::new();
        let mut differences = Vec::new();
        for (name, theirs) in &self.theirs.relations {
            let Some(ours) = complete.get(name) else {
                if !theirs.of_extension {
                    notes.push(format!("public.{name}: not a table of billsync's, left alone"));
                }
                continue;
            };
            for column in theirs.columns.iter().filter(|column| ours.column(&column.name).is_none()) {
                if column.may_be_left_out() {
                    notes.push(format!("public.{name}.{} ({}): an additional column, left alone", column.name, column.type_name));
                } else {
                    let sql = format!("alter table public.{name} alter column {} drop not null;", quote(&column.name));
                    let difference = Difference::new(Phase::Release, name, format!("additional column {}", column.name));
                    differences.push(difference.found("not null without a default").expected("nullable").sql(sql));
                }
            }
        }
        self.comparison.harmless.extend(notes);
        self.comparison.differences.extend(differences);
    }
}

/// A column's definition.
fn define(column: &Column) -> String {
    let default = column.default_value.as_deref().map(|default| format!(" default {}", default_sql(default))).unwrap_or_default();
    let not_null = if column.not_null { " not null" } else { "" };
    format!("{} {}{not_null}{default}", quote(&column.name), short(&column.type_name))
}

/// Types as people write them.
pub(super) fn short(type_name: &str) -> String {
    match type_name {
        "timestamp with time zone" => "timestamptz".to_owned(),
        _ => type_name.replace("character varying", "varchar"),
    }
}

/// Moves rows of a table (`t`) out of the way, to where they can still be read, and nobody else can read them.
pub(super) fn set_aside(table: &str, condition: &str) -> String {
    let aside = format!("public.{table}{ASIDE_SUFFIX}");
    format!(
        "create table if not exists {aside} as table public.{table} with no data;\n\
         alter table {aside} enable row level security;\n\
         with moved as (delete from public.{table} t where {condition} returning t.*) insert into {aside} select * from moved;"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case_names_are_the_same_names() {
        for (name, snake) in [
            ("cardLast4", "card_last_4"),
            ("userId", "user_id"),
            ("UserSubscriptions", "user_subscriptions"),
            ("card_last_4", "card_last_4"),
            ("userID", "user_id"),
            ("card_last4", "card_last_4"),
        ] {
            assert_eq!(snake_case(name), snake, "{name}");
        }
    }

    #[test]
    fn now_is_now_in_every_spelling() {
        assert!(same_default("CURRENT_TIMESTAMP", "now()"));
        assert!(same_default("gen_random_uuid()", "billsync.uuid_v7()"));
        assert!(!same_default("nextval('users_id_seq'::regclass)", "billsync.uuid_v7()"));
        assert!(!same_default("'x'::text", "'y'::text"));
    }
}
