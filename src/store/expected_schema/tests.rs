//! Every form of statement by which a migration may make, rename or drop an index.

use super::*;

fn names(sql: &str) -> Vec<String> {
    ExpectedSchema::read([sql]).indexes.into_iter().map(|index| index.name).collect()
}

const TABLE: &str = "create table public.things (id uuid primary key default f('a, b'), code varchar(5) not null unique, \
    other text references public.others (x) on delete cascade, late text unique deferrable initially deferred, \
    constraint pair unique (code, other), check (code in ('a', 'b')));";

#[test]
fn constraints_make_indexes_by_the_names_that_postgres_gives() {
    let schema = ExpectedSchema::read([TABLE]);
    let made: Vec<(&str, String, Option<Constraint>)> =
        schema.indexes.iter().map(|index| (index.name.as_str(), index.columns(), index.constraint)).collect();
    let unique = |is_deferred| Some(Constraint::Unique { is_deferred });
    assert_eq!(
        made,
        [
            ("things_pkey", "id".to_owned(), Some(Constraint::PrimaryKey)),
            ("things_code_key", "code".to_owned(), unique(false)),
            ("things_late_key", "late".to_owned(), unique(true)),
            ("pair", "code, other".to_owned(), unique(false)),
        ]
    );
    assert_eq!(schema.application_tables(), ["things"]);
    assert_eq!(
        schema.indexes[2].creation(),
        [
            "create unique index concurrently things_late_key on public.things (late)",
            "alter table public.things add constraint things_late_key unique using index things_late_key \
             deferrable initially deferred"
        ]
    );
}

#[test]
fn an_index_is_made_again_by_the_words_of_its_migration() {
    let sql = "create unique index if not exists a_idx on public.t using btree (lower(x), y desc nulls last, z collate \"C\") \
        where y in ('q', 'p') and z is not null;";
    let schema = ExpectedSchema::read([sql]);
    let index = &schema.indexes[0];
    assert_eq!(index.creation(), [sql.replace("if not exists", "concurrently").trim_end_matches(';')]);
    let keys: Vec<(&str, bool)> = index.keys.iter().map(|key| (key.expression.as_str(), key.is_descending)).collect();
    assert_eq!(keys, [("lower(x)", false), ("y", true), ("z", false)]);
    assert_eq!(index.predicate_literals, Some(vec!["p".to_owned(), "q".to_owned()]));
    assert!(index.is_unique);
}

#[test]
fn later_migrations_change_what_earlier_ones_made() {
    assert_eq!(names("create index a on t (x); create index if not exists a on t (y); drop index if exists public.a"), [""; 0]);
    assert_eq!(names("create index a on billsync.t (x); drop index a"), ["a"], "the other one is in public");
    assert_eq!(names("create index a on t (x); alter index a rename to b"), ["b"]);
    assert_eq!(names("create table t (id int primary key); create index a on t (x); drop table t"), [""; 0]);
    assert_eq!(names("create table t (id int primary key); alter table t drop constraint t_pkey"), [""; 0]);
    let added =
        "alter table if exists only t add column if not exists a int unique, add constraint k primary key (x, y), add b int";
    assert_eq!(names(added), ["t_a_key", "k"]);
    assert_eq!(names("do $$ begin create index hidden on t (x); end $$; -- create index b on t (x);"), [""; 0]);
}

#[test]
fn nothing_makes_it_panic() {
    for sql in [
        "create index",
        "create index a",
        "create table t",
        "create table t (",
        "create index a on t (",
        "alter table",
        "drop index",
        "create index a on b.",
        ")(",
    ] {
        let _no_panic = ExpectedSchema::read([sql]);
    }
}
