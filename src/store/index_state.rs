//! The indexes that are there, beside those that the migrations make: what is missing, invalid, different, unused.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::FromRow;

use crate::store::error::StoreError;
use crate::store::expected_schema::{Constraint, ExpectedIndex, ExpectedSchema, TableName, plain_expression};
use crate::store::pool::Store;

statements! {
    /// Of our tables, $1 being those in `public`. A partition's indexes are counted to its parent's.
    LIST_INDEXES = "\
        select n.nspname::text as schema_name, t.relname::text as table_name, i.relname::text as name, \
            x.indisunique as is_unique, x.indisvalid and x.indisready and x.indislive as is_valid, am.amname::text as method, \
            pg_catalog.pg_get_indexdef(x.indexrelid) as definition, \
            array(select pg_catalog.pg_get_indexdef(x.indexrelid, k, true) \
                from generate_series(1, x.indnkeyatts) k order by k) as keys, \
            array(select x.indoption[k] & 1 = 1 from generate_series(0, x.indnkeyatts - 1) k order by k) as descending, \
            pg_catalog.pg_get_expr(x.indpred, x.indrelid) as predicate, c.oid is not null as has_constraint, \
            coalesce(c.condeferred, false) as is_deferred, \
            exists (select from pg_catalog.pg_stat_progress_create_index w where w.index_relid = i.oid) as is_in_work, \
            z.scans::int8 as scans, z.bytes::int8 as bytes \
        from pg_catalog.pg_index x \
        join pg_catalog.pg_class i on i.oid = x.indexrelid \
        join pg_catalog.pg_class t on t.oid = x.indrelid \
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace \
        join pg_catalog.pg_am am on am.oid = i.relam \
        left join pg_catalog.pg_constraint c on c.conindid = i.oid and c.conrelid = t.oid and c.contype in ('p', 'u', 'x') \
        cross join lateral ( \
            select coalesce(sum(pg_catalog.pg_stat_get_numscans(p.relid)), 0) as scans, \
                coalesce(sum(pg_catalog.pg_relation_size(p.relid)), 0) as bytes \
            from (select relid from pg_catalog.pg_partition_tree(i.oid) union select i.oid::regclass) p) z \
        where (n.nspname = 'billsync' or n.nspname = 'public' and t.relname = any($1)) and not t.relispartition \
        order by 1, 2, 3";

    LIST_PRESENT_TABLES = "\
        select n.nspname::text, t.relname::text, t.relkind = 'p' from pg_catalog.pg_class t \
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace \
        where n.nspname in ('public', 'billsync') and t.relkind in ('r', 'p')";
}

/// An index that is there.
#[derive(Clone, Debug, FromRow)]
pub struct PresentIndex {
    pub schema_name: String,
    pub table_name: String,
    pub name: String,
    pub is_unique: bool,
    pub is_valid: bool,
    pub method: String,
    pub definition: String,
    pub keys: Vec<String>,
    pub descending: Vec<bool>,
    pub predicate: Option<String>,
    /// Whether a constraint needs it.
    pub has_constraint: bool,
    pub is_deferred: bool,
    /// Whether somebody is making it at the moment.
    pub is_in_work: bool,
    /// How often it was read by, since the statistics were reset.
    pub scans: i64,
    pub bytes: i64,
}

/// What is wrong with an index that the migrations make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Missing,
    /// Its making was interrupted: it costs every write and helps no read.
    Invalid,
    /// Somebody is making it at the moment.
    InWork,
    /// The index is there, the constraint that needs it is not.
    ConstraintMissing,
    /// Another index has its name.
    Different,
}

/// An index that the migrations make and that is not there as they make it.
#[derive(Clone, Debug)]
pub struct FaultyIndex {
    pub fault: Fault,
    pub expected: ExpectedIndex,
    /// Whether the table is partitioned.
    pub is_partitioned: bool,
}

/// The indexes of our tables.
#[derive(Clone, Debug)]
pub struct IndexState {
    pub present: Vec<PresentIndex>,
    pub faulty: Vec<FaultyIndex>,
    /// Leftovers of an interrupted `create` or `reindex`: of names that no migration knows.
    pub leftovers: Vec<PresentIndex>,
    /// Tables that the migrations make and that are not there.
    pub missing_tables: Vec<TableName>,
}

impl Store {
    /// Compares the indexes that are there with those that the migrations make.
    pub async fn find_index_state(&self, expected: &ExpectedSchema) -> Result<IndexState, StoreError> {
        let application_tables = expected.application_tables();
        let present: Vec<PresentIndex> = self.read_planned(LIST_INDEXES, |query| query.bind(application_tables.clone())).await?;
        let tables: Vec<(String, String, bool)> = self.read_planned(LIST_PRESENT_TABLES, |query| query).await?;
        let tables: BTreeMap<TableName, bool> =
            tables.into_iter().map(|(schema, name, is_partitioned)| (TableName { schema, name }, is_partitioned)).collect();
        Ok(compare(expected, present, &tables))
    }
}

/// `tables`: those that are there, and whether each is partitioned.
fn compare(expected: &ExpectedSchema, present: Vec<PresentIndex>, tables: &BTreeMap<TableName, bool>) -> IndexState {
    let missing_tables = expected.tables.iter().filter(|table| !tables.contains_key(table)).cloned().collect();
    let faulty = expected.indexes.iter().filter_map(|index| {
        let is_partitioned = *tables.get(&index.table)?;
        let fault = fault_of(index, &present)?;
        Some(FaultyIndex { fault, expected: index.clone(), is_partitioned })
    });
    let is_expected = |index: &PresentIndex| expected.indexes.iter().any(|it| it.name == index.name && is_on(index, &it.table));
    let leftovers = present.iter().filter(|index| !index.is_valid && !index.is_in_work && !is_expected(index)).cloned();
    IndexState { faulty: faulty.collect(), leftovers: leftovers.collect(), missing_tables, present }
}

fn is_on(index: &PresentIndex, table: &TableName) -> bool {
    index.schema_name == table.schema && index.table_name == table.name
}

fn fault_of(expected: &ExpectedIndex, present: &[PresentIndex]) -> Option<Fault> {
    let named = present.iter().find(|index| index.schema_name == expected.table.schema && index.name == expected.name);
    let Some(named) = named else {
        // An adopted database may have it by another name. Two conditions are too hard to compare: then ours is made.
        let serves = |index: &&PresentIndex| {
            index.is_valid && index.predicate.is_none() && is_same(expected, index) && is_constrained(expected, index)
        };
        return if present.iter().any(|index| serves(&index)) { None } else { Some(Fault::Missing) };
    };
    if named.is_in_work {
        Some(Fault::InWork)
    } else if !named.is_valid {
        Some(Fault::Invalid)
    } else if !is_same(expected, named) || named.has_constraint && !is_constrained(expected, named) {
        Some(Fault::Different)
    } else if expected.constraint.is_some() && !named.has_constraint {
        Some(Fault::ConstraintMissing)
    } else {
        None
    }
}

/// Whether it enforces what the constraint demands, and when.
fn is_constrained(expected: &ExpectedIndex, index: &PresentIndex) -> bool {
    index.is_deferred == matches!(expected.constraint, Some(Constraint::Unique { is_deferred: true }))
}

fn is_same(expected: &ExpectedIndex, index: &PresentIndex) -> bool {
    let has_keys =
        expected.keys.len() == index.keys.len()
            && expected.keys.iter().zip(&index.keys).zip(&index.descending).all(|((key, present), descending)| {
                key.expression == plain_expression(present) && key.is_descending == *descending
            });
    has_keys
        && is_on(index, &expected.table)
        && expected.is_unique == index.is_unique
        && expected.method == index.method
        && expected.predicate_literals == index.predicate.as_deref().map(literals)
}

/// The literals of a condition, sorted: Postgres writes the rest of it in its own way.
fn literals(predicate: &str) -> Vec<String> {
    let mut literals: Vec<String> = predicate.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    literals.sort_unstable();
    literals
}
