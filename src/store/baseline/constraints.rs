//! Compares keys, checks and foreign keys by what they demand, whatever they are called; and lets go, for the time of the
//! script, of whatever relies on something that is changed.

use std::collections::BTreeSet;

use crate::store::baseline::compare::{ASIDE_SUFFIX, Comparing, set_aside};
use crate::store::baseline::conversion::{convert, quote};
use crate::store::baseline::schema::{Column, Constraint, Index, Relation, Schema};
use crate::store::baseline::step::{Difference, Guard, Phase};

/// Tables that events are written to: a rule of somebody else's about them could refuse an event.
const WRITTEN_BY_EVENTS: [&str; 5] = ["users", "user_subscriptions", "user_billing", "user_usage", "user_system_data"];

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
}

fn is_same_set(a: &[String], b: &[String]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}

/// Whether theirs does what ours demands.
fn satisfies(theirs: &Constraint, ours: &Constraint) -> bool {
    let same_key = is_same_set(&theirs.columns, &ours.columns) && !theirs.is_deferrable() && !ours.is_deferrable();
    match (ours.kind.as_str(), theirs.kind.as_str()) {
        ("u", "u" | "p") if same_key => !theirs.definition.contains("NULLS NOT DISTINCT"),
        ("p", "p") => theirs.columns == ours.columns,
        ("c", "c") => bare_check(&theirs.definition) == bare_check(&ours.definition),
        (ours_kind, theirs_kind) => ours_kind == theirs_kind && theirs.definition == ours.definition,
    }
}

/// A check without the casts and brackets that Postgres puts into it, more of them each time it reads its own words.
fn bare_check(definition: &str) -> String {
    let casts = ["::character varying[]", "::character varying", "::text[]", "::text"];
    let bare = casts.iter().fold(definition.to_owned(), |text, cast| text.replace(cast, ""));
    bare.chars().filter(|c| !matches!(c, '(' | ')' | ' ')).collect()
}

fn index_satisfies(index: &Index, ours: &Constraint) -> bool {
    ours.kind == "u" && !ours.is_deferrable() && is_unique_on(index, &ours.columns)
}

fn is_unique_on(index: &Index, columns: &[String]) -> bool {
    index.is_unique && index.is_valid && index.is_plain && !index.of_constraint && is_same_set(&index.columns, columns)
}

impl Comparing<'_> {
    pub(super) fn compare_constraints(&mut self, schema: &Schema) {
        for (table, ours) in &schema.relations {
            let theirs = self.theirs.relations.get(table).cloned();
            for constraint in &ours.constraints {
                self.compare_constraint(table, constraint, theirs.as_ref());
            }
            if let Some(theirs) = theirs {
                self.compare_others(table, ours, &theirs);
            }
        }
    }

    fn compare_constraint(&mut self, table: &str, ours: &Constraint, theirs: Option<&Relation>) {
        let known = theirs.map(|theirs| theirs.constraints.as_slice()).unwrap_or_default();
        let found = known.iter().find(|constraint| satisfies(constraint, ours));
        match found {
            Some(found) if found.is_valid => return,
            Some(found) => {
                let sql = format!("alter table public.{table} validate constraint {};", quote(&found.name));
                let difference = Difference::new(Phase::ForeignKeys, table, format!("constraint {}", found.name));
                return self.add(difference.found("not valid").expected("valid").sql(sql));
            }
            None => {}
        }
        if theirs.is_some_and(|theirs| theirs.indexes.iter().any(|index| index_satisfies(index, ours))) {
            return;
        }
        let name = self.free_name(table, &ours.name);
        let sql = format!("alter table public.{table} add constraint {} {};", quote(&name), ours.definition);
        let (phase, guard) = match ours.kind.as_str() {
            "c" => (Phase::Checks, self.check_guard(table, ours)),
            "f" => (Phase::ForeignKeys, self.orphan_guard(table, ours)),
            _ if self.is_loose(table, ours) => (Phase::LooseKeys, self.duplicate_guard(table, ours)),
            _ => (Phase::Keys, self.duplicate_guard(table, ours)),
        };
        let difference = Difference::new(phase, table, format!("constraint {}", ours.name)).found("missing");
        self.add(difference.expected(&*ours.definition).sql(sql).guarded(guard));
    }

    /// A name that no constraint or index of theirs has that stays.
    fn free_name(&self, table: &str, name: &str) -> String {
        let relations = self.theirs.relations.iter();
        let is_taken = relations.into_iter().any(|(other, relation)| {
            relation.indexes.iter().any(|index| index.name == name)
                || (other == table && relation.constraints.iter().any(|constraint| constraint.name == name))
        });
        if is_taken { format!("{name}_billsync") } else { name.to_owned() }
    }

    /// Theirs that ours do not have: some would refuse rows.
    fn compare_others(&mut self, table: &str, ours: &Relation, theirs: &Relation) {
        let is_written = WRITTEN_BY_EVENTS.contains(&table);
        let touches_ours = |columns: &[String]| columns.iter().any(|column| ours.column(column).is_some());
        for constraint in &theirs.constraints {
            if ours.constraints.iter().any(|own| satisfies(constraint, own)) {
                continue;
            }
            let instead = ours.constraints.iter().any(|own| own.kind == constraint.kind && own.columns == constraint.columns);
            let is_weaker = constraint.kind == "u" && ours.constraints.iter().any(|own| is_implied(own, &constraint.columns));
            let refuses = match constraint.kind.as_str() {
                "p" => true,
                "u" => instead || (is_written && touches_ours(&constraint.columns) && !is_weaker),
                _ => instead || (is_written && touches_ours(&constraint.columns)),
            };
            if refuses {
                self.drop_constraint(table, constraint);
            } else {
                self.comparison.harmless.push(format!("public.{table}: additional constraint {}, left alone", constraint.name));
            }
        }
        for index in theirs.indexes.iter().filter(|index| index.is_unique && !index.of_constraint) {
            let demanded = ours.constraints.iter().any(|own| index_satisfies(index, own));
            let implied = ours.constraints.iter().any(|own| is_implied(own, &index.columns)) && index.is_plain;
            let in_place = ours.constraints.iter().any(|own| own.is_deferrable() && is_unique_on(index, &own.columns));
            if in_place || (is_written && !demanded && !implied && (touches_ours(&index.columns) || !index.is_plain)) {
                let sql = format!("drop index public.{};", quote(&index.name));
                self.release_reliant(table, &index.name);
                let difference = Difference::new(Phase::Release, table, format!("index {}", index.name)).found("unique");
                self.add(difference.expected("no such rule: it would refuse rows").sql(sql));
            }
        }
    }

    fn drop_constraint(&mut self, table: &str, constraint: &Constraint) {
        if let Some(index) = constraint.index_name.as_deref().filter(|_| constraint.kind != "f") {
            self.release_reliant(table, index);
        }
        let sql = format!("alter table public.{table} drop constraint if exists {};", quote(&constraint.name));
        let difference = Difference::new(Phase::Release, table, format!("constraint {}", constraint.name));
        self.add(difference.found(&*constraint.definition).expected("not there").sql(sql));
    }

    /// Foreign keys rely on a key's index: they let go of it before it is dropped.
    fn release_reliant(&mut self, table: &str, index: &str) {
        let reliant: Vec<Constraint> = self.theirs.foreign_keys().cloned().collect();
        for key in reliant {
            if key.refers_to.as_deref() == Some(table) && key.index_name.as_deref() == Some(index) {
                self.release_foreign_key(&key, false);
            }
        }
    }

    /// Drops a foreign key for the time of the script, once.
    fn release_foreign_key(&mut self, key: &Constraint, is_converted: bool) {
        let sql = format!(
            "alter table {}.{} drop constraint if exists {};",
            quote(&key.schema_name),
            quote(&key.relation),
            quote(&key.name)
        );
        if self.comparison.differences.iter().any(|difference| difference.sql == sql) {
            return;
        }
        let what = format!("constraint {}", key.name);
        let expected = if is_converted { "made again, once the types are right" } else { "made again" };
        self.add(Difference::new(Phase::Release, &key.relation, &*what).found("in the way").expected(expected).sql(sql));
        let sql = format!(
            "alter table {}.{} add constraint {} {};",
            quote(&key.schema_name),
            quote(&key.relation),
            quote(&key.name),
            key.definition
        );
        // A foreign key that ours do not have is dropped for good elsewhere, or is of a table that is none of ours.
        let is_theirs = !self.expected.application.relations.contains_key(&key.relation) || key.schema_name != "public";
        let is_wanted = self
            .expected
            .application
            .relations
            .get(&key.relation)
            .is_some_and(|relation| relation.constraints.iter().any(|own| satisfies(key, own)));
        if is_theirs || is_wanted {
            self.add(
                Difference::new(Phase::ForeignKeys, &key.relation, what)
                    .found("dropped above")
                    .expected(&*key.definition)
                    .sql(sql),
            );
        }
    }

    /// Foreign keys, checks, views and policies on columns whose type changes let go of them meanwhile; a column of somebody
    /// else's table that refers to one follows its type.
    pub(super) fn release_retyped(&mut self) {
        let keys: Vec<Constraint> = self.theirs.foreign_keys().cloned().collect();
        for key in &keys {
            let refers = |table: Option<&str>, columns: &[String], (t, c): &(String, String)| {
                table == Some(t.as_str()) && columns.contains(c)
            };
            let of_own = self.retyped.iter().any(|column| refers(Some(&key.relation), &key.columns, column));
            let of_other = self.retyped.iter().any(|column| refers(key.refers_to.as_deref(), &key.refers_to_columns, column));
            if of_own || of_other {
                self.release_foreign_key(key, true);
            }
            if of_other {
                self.follow_type(key);
            }
        }
        self.release_checks();
        self.release_dependents();
    }

    fn follow_type(&mut self, key: &Constraint) {
        let is_known = key.schema_name == "public" && self.expected.complete.relations.contains_key(&key.relation);
        let Some(target) = key.refers_to.as_deref().filter(|_| !is_known) else { return };
        for (column, referred) in key.columns.iter().zip(&key.refers_to_columns) {
            let ours = self.expected.application.relations.get(target).and_then(|relation| relation.column(referred)).cloned();
            let own = self.theirs.relations.get(&key.relation).filter(|_| key.schema_name == "public");
            let (Some(ours), Some(theirs)) = (ours, own.and_then(|relation| relation.column(column)).cloned()) else { continue };
            let conversion = convert(&theirs, &Column { name: column.clone(), ..ours.clone() });
            let (table, column) = (quote(&key.relation), quote(column));
            let mut sql: String = conversion.function.iter().map(|function| format!("{function}\n")).collect();
            if theirs.default_value.is_some() {
                sql.push_str(&format!("alter table public.{table} alter column {column} drop default;\n"));
            }
            sql.push_str(&format!(
                "alter table public.{table} alter column {column} type {} using {};",
                ours.type_name, conversion.expression
            ));
            let difference = Difference::new(Phase::Convert, &key.relation, format!("column {column}, which refers to {target}"));
            self.add(difference.found(&*theirs.type_name).expected(&*ours.type_name).sql(sql));
        }
    }

    /// A check compares with values of the old type.
    fn release_checks(&mut self) {
        let mut dropped = Vec::new();
        for (table, column) in &self.retyped {
            let Some(relation) = self.theirs.relations.get(table) else { continue };
            for check in relation.constraints.iter().filter(|check| check.kind == "c" && check.columns.contains(column)) {
                dropped.push((table.clone(), check.clone()));
            }
            for index in relation.indexes.iter().filter(|index| !index.is_plain && index.definition.contains(&quote(column))) {
                let sql = format!("drop index if exists public.{};", quote(&index.name));
                let difference = Difference::new(Phase::Release, table, format!("index {}", index.name)).found("in the way");
                let made = format!("{};", index.definition);
                let again = Difference::new(Phase::Restore, table, format!("index {}", index.name)).found("dropped above");
                self.comparison.differences.push(difference.expected("made again").sql(sql));
                self.comparison.differences.push(again.expected(&*index.definition).sql(made));
            }
        }
        for (table, check) in dropped {
            let sql = format!("alter table public.{table} drop constraint if exists {};", quote(&check.name));
            if self.comparison.differences.iter().any(|difference| difference.sql == sql) {
                continue;
            }
            let what = format!("constraint {}", check.name);
            self.add(
                Difference::new(Phase::Release, &table, &*what)
                    .found("in the way")
                    .expected("made again, if it is ours")
                    .sql(sql),
            );
            let own = self.expected.application.relations.get(&table);
            if let Some(own) = own.and_then(|own| own.constraints.iter().find(|own| satisfies(&check, own))).cloned() {
                let sql = format!("alter table public.{table} add constraint {} {};", quote(&check.name), own.definition);
                let guard = self.check_guard(&table, &own);
                let again = Difference::new(Phase::Checks, &table, what).found("dropped above").expected(&*own.definition);
                self.add(again.sql(sql).guarded(guard));
            }
        }
    }

    fn release_dependents(&mut self) {
        let names: BTreeSet<(String, String, String)> = self
            .theirs
            .dependents
            .iter()
            .filter(|dependent| self.retyped.iter().any(|(t, c)| *t == dependent.relation && *c == dependent.column_name))
            .map(|dependent| (dependent.name.clone(), dependent.drop_sql.clone(), dependent.create_sql.clone()))
            .collect();
        for (name, drop_sql, create_sql) in names {
            let kind = self.theirs.dependents.iter().find(|d| d.name == name).map_or("view", |d| d.kind.as_str()).to_owned();
            let what = format!("{kind} {name}");
            self.add(Difference::new(Phase::Release, &name, &*what).found("in the way").expected("made again").sql(drop_sql));
            let expected = if kind == "view" { "there; grants on it have to be given again" } else { "there" };
            self.add(Difference::new(Phase::Restore, &name, what).found("dropped above").expected(expected).sql(create_sql));
        }
    }

    /// Whether rows elsewhere go when one of this table's goes: then none may be moved out of the way.
    pub(super) fn is_referred_to(&self, table: &str) -> bool {
        let own = self.expected.application.foreign_keys();
        own.chain(self.theirs.foreign_keys()).any(|key| key.refers_to.as_deref() == Some(table) && key.relation != table)
    }

    fn has_columns(&self, table: &str, columns: &[String]) -> bool {
        self.theirs.relations.get(table).is_some_and(|relation| columns.iter().all(|column| relation.column(column).is_some()))
    }

    fn check_guard(&self, table: &str, ours: &Constraint) -> Option<Guard> {
        let [column] = ours.columns.as_slice() else { return None };
        let own = self.expected.complete.relations.get(table)?.column(column)?;
        let default = own.default_value.as_deref()?;
        if !self.has_columns(table, &ours.columns) {
            return None;
        }
        let condition = ours.definition.strip_prefix("CHECK ")?;
        let (name, aside) = (quote(column), format!("{column}{ASIDE_SUFFIX}"));
        Some(Guard {
            function: None,
            count_sql: format!("select count(*) from public.{table} where not {condition}"),
            sql: Some(format!(
                "alter table public.{table} add column if not exists {} text;\n\
                 update public.{table} set {} = {name}::text, {name} = {default} where not {condition};",
                quote(&aside),
                quote(&aside)
            )),
            rows: format!("values are none of these: they become {default} and stay readable in column {aside}"),
        })
    }

    /// Whether rows may do without the key.
    fn is_loose(&self, table: &str, ours: &Constraint) -> bool {
        let columns = self.expected.complete.relations.get(table).map(|relation| &relation.columns);
        columns.into_iter().flatten().any(|column| !column.not_null && ours.columns == [column.name.clone()])
    }

    fn duplicate_guard(&self, table: &str, ours: &Constraint) -> Option<Guard> {
        if !self.has_columns(table, &ours.columns) {
            return None;
        }
        let columns = list(&ours.columns);
        let present = ours.columns.iter().map(|c| format!("{} is not null", quote(c))).collect::<Vec<_>>().join(" and ");
        let count_sql = format!(
            "select count(*) from (select from public.{table} where {present} group by {columns} having count(*) > 1) repeated"
        );
        let later = format!(
            "ctid in (select ctid from (select ctid, row_number() over (partition by {columns} order by updated_at desc nulls last, \
             ctid desc) as place from public.{table} where {present}) ranked where place > 1)"
        );
        let (sql, rows) = match ours.columns.as_slice() {
            [column] if self.is_loose(table, ours) => {
                let (name, aside) = (quote(column), format!("{column}{ASIDE_SUFFIX}"));
                let sql = format!(
                    "alter table public.{table} add column if not exists {0} text;\n\
                     update public.{table} set {0} = {name}, {name} = null where {later};",
                    quote(&aside)
                );
                (Some(sql), format!("values stand in several rows: the row updated last keeps it, the others in column {aside}"))
            }
            _ if self.is_referred_to(table) => (
                None,
                format!(
                    "values of {columns} stand in several rows, which other tables may refer to: a person has to decide. Find them: \
                    select {columns}, count(*) from public.{table} group by {columns} having count(*) > 1"
                ),
            ),
            _ => {
                let sql = set_aside(table, &format!("t.{later}"));
                (
                    Some(sql),
                    format!(
                        "values stand in several rows: the row updated last stays, the others move to public.{table}{ASIDE_SUFFIX}"
                    ),
                )
            }
        };
        Some(Guard { function: None, count_sql, sql, rows })
    }

    fn orphan_guard(&self, table: &str, ours: &Constraint) -> Option<Guard> {
        let ([column], [referred]) = (ours.columns.as_slice(), ours.refers_to_columns.as_slice()) else { return None };
        let parent = ours.refers_to.as_deref()?;
        if !self.has_columns(table, &ours.columns) {
            return None;
        }
        let (column, referred) = (quote(column), quote(referred));
        let orphan = |cast: &str| {
            format!(
                "t.{column} is not null and not exists (select from public.{parent} p where p.{referred}{cast} = t.{column}{cast})"
            )
        };
        let has_parent = self.has_columns(parent, &ours.refers_to_columns);
        let counted = if has_parent { orphan("::text") } else { format!("t.{column} is not null") };
        let (sql, rows) = if (parent, referred.as_str()) == ("users", "user_id") {
            let sql = format!(
                "insert into public.users (user_id) select distinct t.{column} from public.{table} t where {};",
                orphan("")
            );
            (Some(sql), "rows may belong to users without a row: one is made for each".to_owned())
        } else if self.is_loose(table, ours) {
            let aside = quote(&format!("{}{ASIDE_SUFFIX}", ours.columns.first()?));
            let sql = format!(
                "alter table public.{table} add column if not exists {aside} text;\n\
                 update public.{table} t set {aside} = t.{column}::text, {column} = null where {};",
                orphan("")
            );
            (Some(sql), format!("rows may refer to none: they refer to nothing then, and keep what they had in column {aside}"))
        } else if !self.is_referred_to(table) {
            let rows = format!("rows may refer to none: such rows move to public.{table}{ASIDE_SUFFIX}");
            (Some(set_aside(table, &orphan(""))), rows)
        } else if has_parent {
            let find = format!("select * from public.{table} t where {}", orphan("::text"));
            (None, format!("rows refer to none, and others refer to them: a person has to decide. Find them: {find}"))
        } else {
            // Who is in the other table will be known once it is made; the constraint refuses what does not fit.
            return None;
        };
        Some(Guard { function: None, count_sql: format!("select count(*) from public.{table} t where {counted}"), sql, rows })
    }
}

/// Whether whatever is unique by ours is so by these columns too.
fn is_implied(own: &Constraint, columns: &[String]) -> bool {
    matches!(own.kind.as_str(), "p" | "u") && own.columns.iter().all(|column| columns.contains(column))
}

#[cfg(test)]
mod tests {
    use super::bare_check;

    #[test]
    fn a_check_is_the_same_however_often_postgres_has_read_it() {
        let once = "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))";
        let twice = "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))";
        let text = "CHECK ((status = ANY (ARRAY['a'::text, 'b'::text])))";
        assert_eq!(bare_check(once), bare_check(twice));
        assert_eq!(bare_check(once), bare_check(text));
        assert_ne!(bare_check(once), bare_check("CHECK ((status = ANY (ARRAY['a'::text])))"));
    }
}
