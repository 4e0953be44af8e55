//! Indexes as the report tells them.

use serde::Serialize;

use crate::store::{ExpectedSchema, Fault, FaultyIndex, IndexState, PresentIndex};

/// An index that is not as it should be.
#[derive(Clone, Debug, Serialize)]
pub struct IndexLine {
    pub index: String,
    /// `schema.table`.
    pub table: String,
    pub fault: Fault,
    /// The statements that make it; of a leftover, what it is.
    pub definition: String,
    /// What to do about it; `None` where somebody is at it.
    pub fix: Option<String>,
}

/// An index that was not read by while that was counted.
#[derive(Clone, Debug, Serialize)]
pub struct UnusedIndex {
    pub index: String,
    /// `schema.table`.
    pub table: String,
    pub bytes: i64,
    pub is_of_migrations: bool,
}

impl Fault {
    /// In a table for people.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::Invalid => "invalid",
            Fault::InWork => "being made",
            Fault::ConstraintMissing => "without its constraint",
            Fault::Different => "of another form",
        }
    }
}

/// The command that makes what is missing.
pub const REPAIR: &str = "billsync inspect db --fix-indexes";

/// What to do about an index that is not as the migrations make it; `None` where somebody is at it.
pub fn fix_of_index(index: &FaultyIndex) -> Option<String> {
    let (name, table) = (&index.expected.name, &index.expected.table);
    match (index.fault, index.expected.constraint) {
        (Fault::InWork, _) => None,
        (Fault::Different, Some(_)) => Some(format!("alter table {table} drop constraint {name};   -- then: {REPAIR}")),
        (Fault::Different, None) => Some(format!("drop index concurrently {}.{name};   -- then: {REPAIR}", table.schema)),
        (Fault::Missing | Fault::Invalid | Fault::ConstraintMissing, _) => Some(REPAIR.to_owned()),
    }
}

/// What to do about an invalid index that no migration makes.
pub fn fix_of_leftover(index: &PresentIndex) -> String {
    format!("drop index concurrently {}.{};", index.schema_name, index.name)
}

/// What the migrations make and what is not there like that.
pub fn list_faulty(state: &IndexState) -> Vec<IndexLine> {
    let line = |faulty: &FaultyIndex| IndexLine {
        index: faulty.expected.name.clone(),
        table: faulty.expected.table.to_string(),
        fault: faulty.fault,
        definition: faulty.expected.creation().join("; "),
        fix: fix_of_index(faulty),
    };
    state.faulty.iter().map(line).collect()
}

/// Invalid ones that no migration makes.
pub fn list_leftovers(state: &IndexState) -> Vec<IndexLine> {
    let line = |index: &PresentIndex| IndexLine {
        index: index.name.clone(),
        table: format!("{}.{}", index.schema_name, index.table_name),
        fault: Fault::Invalid,
        definition: index.definition.clone(),
        fix: Some(fix_of_leftover(index)),
    };
    state.leftovers.iter().map(line).collect()
}

/// Never read. One that a constraint needs, or that keeps values apart, is of use with every write.
pub fn list_unused(state: &IndexState, expected: &ExpectedSchema) -> Vec<UnusedIndex> {
    let is_unused = |index: &&PresentIndex| index.scans == 0 && index.is_valid && !index.is_unique && !index.has_constraint;
    let line = |index: &PresentIndex| UnusedIndex {
        index: index.name.clone(),
        table: format!("{}.{}", index.schema_name, index.table_name),
        bytes: index.bytes,
        is_of_migrations: expected.indexes.iter().any(|it| it.name == index.name && it.table.schema == index.schema_name),
    };
    let mut unused: Vec<UnusedIndex> = state.present.iter().filter(is_unused).map(line).collect();
    unused.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.index.cmp(&b.index)));
    unused
}
