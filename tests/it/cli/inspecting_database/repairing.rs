//! `inspect db --fix-indexes`, and that what it holds to be the indexes is what the migrations make.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use billsync::store::{Store, StoreSettings, schema_of_migrations};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use super::inspected;
use crate::cli::{billsync, on, run};
use crate::support::database::{TestDatabase, database};
use crate::support::until;

/// Every index of our tables that is no partition's, by its name; with the constraint that needs it.
async fn indexes(database: &TestDatabase) -> BTreeMap<String, String> {
    let found: Value = database
        .ask(
            "select jsonb_object_agg(n.nspname || '.' || i.relname, \
                pg_get_indexdef(i.oid) || coalesce(' ' || pg_get_constraintdef(c.oid), '') || case when x.indisvalid then '' else ' invalid' end) \
            from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid \
            join pg_namespace n on n.oid = t.relnamespace \
            left join pg_constraint c on c.conindid = i.oid and c.conrelid = t.oid and c.contype in ('p', 'u') \
            where n.nspname in ('public', 'billsync') and not t.relispartition and t.relname <> 'migrations'",
        )
        .await;
    serde_json::from_value(found).unwrap()
}

fn fixing(database: &TestDatabase) -> (i32, Value) {
    let (code, printed, complaints) =
        run(billsync(&["inspect", "db", "--fix-indexes", "--json"]).env("DATABASE_URL", &database.url));
    (code, serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}{complaints}")))
}

/// The list of what should be there is read off the migrations: a form of statement that the reader does not know would
/// show here.
#[tokio::test]
async fn what_is_expected_is_what_the_migrations_make() {
    let database = database().await;
    let expected = schema_of_migrations();
    let names: Vec<String> = expected.indexes.iter().map(|index| format!("{}.{}", index.table.schema, index.name)).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, indexes(&database).await.into_keys().collect::<Vec<String>>());
    let mut tables: Vec<String> = expected.tables.iter().map(ToString::to_string).collect();
    tables.sort_unstable();
    let present: Value = database
        .ask(
            "select jsonb_agg(n.nspname || '.' || c.relname order by n.nspname || '.' || c.relname collate \"C\") from pg_class c \
            join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'billsync') and c.relkind in ('r', 'p') \
            and not c.relispartition and c.relname <> 'migrations'",
        )
        .await;
    assert_eq!(json!(tables), present);
    // No index of the migrations is taken for another.
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    let state = store.find_index_state(&expected).await.unwrap();
    store.close().await;
    assert!(state.faulty.is_empty() && state.leftovers.is_empty() && state.missing_tables.is_empty(), "{state:?}");
}

/// Word for word: method, order, collation, condition, constraint.
#[tokio::test]
async fn every_index_that_was_dropped_is_made_again_as_it_was() {
    let database = database().await;
    let before = indexes(&database).await;
    database
        .execute(
            "do $$ declare r record; begin \
            for r in select c.conrelid::regclass t, c.conname n from pg_constraint c join pg_class t on t.oid = c.conrelid \
                where c.contype in ('p', 'u') and c.connamespace in ('public'::regnamespace, 'billsync'::regnamespace) \
                and not t.relispartition and t.relname <> 'migrations' loop \
                execute format('alter table %s drop constraint %I cascade', r.t, r.n); end loop; \
            for r in select i.oid::regclass n from pg_index x join pg_class i on i.oid = x.indexrelid \
                join pg_class t on t.oid = x.indrelid where t.relnamespace in ('public'::regnamespace, 'billsync'::regnamespace) \
                and not t.relispartition and t.relname <> 'migrations' loop execute format('drop index %s', r.n); end loop; end $$",
        )
        .await;
    assert_eq!(indexes_or_none(&database).await, BTreeMap::new());
    let report = inspected(&database);
    assert_eq!(report["faulty_indexes"].as_array().unwrap().len(), before.len());
    let (code, repaired) = fixing(&database);
    assert_eq!(code, 0, "{repaired:#}");
    assert_eq!(repaired["mended"].as_array().unwrap().len(), before.len());
    assert_eq!(indexes(&database).await, before);
    let keys: i64 = database
        .ask(
            "select count(*) from pg_inherits i where inhparent = 'billsync.webhook_payloads'::regclass and not exists \
            (select from pg_constraint c where c.conrelid = i.inhrelid and c.contype = 'p')",
        )
        .await;
    assert_eq!(keys, 0, "every partition has its key");
    assert_eq!(
        on(&database.url, &["inspect", "db", "--fix-indexes"], 0),
        "Every index that the migrations make is there, and valid.\n"
    );
}

async fn indexes_or_none(database: &TestDatabase) -> BTreeMap<String, String> {
    match database
        .ask::<bool>("select exists (select from pg_indexes where schemaname in ('public', 'billsync') and tablename = 'users')")
        .await
    {
        true => indexes(database).await,
        false => BTreeMap::new(),
    }
}

#[tokio::test]
async fn invalid_ones_and_leftovers_are_dropped_and_made_anew() {
    let database = database().await;
    let before = indexes(&database).await;
    // What interrupted statements leave, by their real cause: values that are there twice.
    let mut connection = database.connect().await;
    database.execute("insert into users (user_id, industry) values ('user_1', 'x'), ('user_2', 'x')").await;
    database
        .execute("drop index public.users_email_lower_idx; alter table billsync.refetch_queue drop constraint refetch_queue_pkey")
        .await;
    for statement in [
        "create unique index concurrently users_email_lower_idx on public.users (industry)",
        "create unique index concurrently users_created_at_idx_ccnew on public.users (industry)",
        "create unique index concurrently of_the_application on public.users (industry)",
    ] {
        assert!(connection.execute(statement).await.is_err());
    }
    // Interrupted between its two statements.
    database.execute("create unique index refetch_queue_pkey on billsync.refetch_queue (object_id)").await;
    let report = inspected(&database);
    let faults: Vec<(&str, &str)> = report["faulty_indexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["index"].as_str().unwrap(), line["fault"].as_str().unwrap()))
        .collect();
    assert_eq!(faults, [("users_email_lower_idx", "invalid"), ("refetch_queue_pkey", "constraint_missing")]);
    let leftovers: Vec<&str> =
        report["leftover_indexes"].as_array().unwrap().iter().map(|line| line["index"].as_str().unwrap()).collect();
    assert_eq!(leftovers, ["of_the_application", "users_created_at_idx_ccnew"]);

    let (code, repaired) = fixing(&database);
    assert_eq!((code, &repaired["dropped"]), (0, &json!(["public.users_created_at_idx_ccnew"])), "{repaired:#}");
    let mut after = indexes(&database).await;
    assert!(after.remove("public.of_the_application").is_some(), "what is not ours is not dropped");
    assert_eq!(after, before);
}

#[tokio::test]
async fn what_cannot_be_made_is_told_and_hinders_nothing_else() {
    let database = database().await;
    database
        .execute(
            "alter table user_billing drop constraint user_billing_stripe_customer_id_key; \
            insert into users (user_id) values ('user_1'), ('user_2'); \
            insert into user_billing (user_id, stripe_customer_id) select id, 'cus_twice' from users; \
            drop index scraping_jobs_platform_idx; create index scraping_jobs_platform_idx on scraping_jobs (region); \
            drop index billsync.owners_test_clock_idx",
        )
        .await;
    let (code, repaired) = fixing(&database);
    assert_eq!(code, 1);
    let failed: Vec<&str> = repaired["failed"].as_array().unwrap().iter().map(|it| it["index"].as_str().unwrap()).collect();
    assert_eq!(failed, ["user_billing_stripe_customer_id_key", "scraping_jobs_platform_idx"]);
    assert!(repaired["failed"][0]["why"].as_str().unwrap().contains("23505 unique_violation"), "{repaired:#}");
    assert!(!repaired.to_string().contains("cus_twice"));
    assert_eq!(repaired["mended"][0]["index"], "owners_test_clock_idx");
    assert!(!indexes(&database).await.values().any(|definition| definition.contains("invalid")), "nothing is left half-made");

    let (code, printed, complaints) = run(billsync(&["inspect", "db", "--fix-indexes"]).env("DATABASE_URL", &database.url));
    assert_eq!((code, printed.trim()), (1, ""));
    assert!(
        complaints.contains("could not make user_billing_stripe_customer_id_key on public.user_billing: SQLSTATE 23505"),
        "{complaints}"
    );
    assert!(complaints.contains("an index of another form is called scraping_jobs_platform_idx"), "{complaints}");
}

#[tokio::test]
async fn an_adopted_database_may_have_them_by_other_names() {
    let database = database().await;
    database
        .execute(
            "alter index campaigns_user_id_idx rename to idx_campaigns; \
            alter table users rename constraint users_user_id_key to users_user_id_unique; \
            alter index scraping_jobs_unfinished_idx rename to idx_with_a_condition",
        )
        .await;
    let report = inspected(&database);
    let missing: Vec<&str> =
        report["faulty_indexes"].as_array().unwrap().iter().map(|it| it["index"].as_str().unwrap()).collect();
    assert_eq!(missing, ["scraping_jobs_unfinished_idx"], "whether two conditions are the same is too hard to tell");
}

/// `--fix-indexes` in a process of its own, held back by a transaction of ours: an index that is made concurrently waits for
/// whoever may still write without it.
async fn held_back(database: &TestDatabase) -> (Child, PgConnection) {
    database.execute("drop index public.users_email_lower_idx; drop index billsync.owners_test_clock_idx").await;
    let mut holder = database.connect().await;
    holder.execute("begin; insert into users (user_id) values ('user_1')").await.unwrap();
    let mut command = billsync(&["inspect", "db", "--fix-indexes"]);
    let child = command.env("DATABASE_URL", &database.url).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the index is being made", async || {
        let waits = "select exists (select from pg_stat_progress_create_index where datname = current_database() \
            and phase like 'waiting%')";
        database.ask::<bool>(waits).await
    })
    .await;
    (child, holder)
}

#[tokio::test]
async fn a_signal_ends_it_and_the_next_run_makes_the_rest() {
    let database = database().await;
    let before = indexes(&database).await;
    let (mut child, holder) = held_back(&database).await;

    // A second one does not get in its way; nor is what is in work taken for a leftover.
    let (code, _, complaints) = run(billsync(&["inspect", "db", "--fix-indexes"]).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("another process is making indexes"), "{complaints}");
    let faults: Vec<Value> = inspected(&database)["faulty_indexes"].as_array().unwrap().clone();
    assert!(faults.iter().any(|fault| fault["fault"] == "in_work"), "{faults:#?}");

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    until("it has ended", async || child.try_wait().unwrap().is_some()).await;
    assert_eq!(child.wait().unwrap().code(), Some(1));
    holder.close().await.unwrap();
    assert_eq!(fixing(&database).0, 0);
    assert_eq!(indexes(&database).await, before);
}

#[tokio::test]
async fn a_maker_that_was_killed_leaves_what_the_next_run_mends() {
    let database = database().await;
    let before = indexes(&database).await;
    let (mut child, holder) = held_back(&database).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The server notices within seconds that nobody is there any more.
    until("the server has given it up", async || {
        database
            .ask::<bool>("select not exists (select from pg_stat_progress_create_index where datname = current_database())")
            .await
    })
    .await;
    assert_eq!(inspected(&database)["faulty_indexes"][0]["fault"], "invalid");
    holder.close().await.unwrap();
    assert_eq!(fixing(&database).0, 0);
    assert_eq!(indexes(&database).await, before);
}

#[tokio::test]
async fn a_newer_versions_indexes_are_left_alone() {
    let database = database().await;
    database
        .execute(
            "insert into billsync.migrations (version, description, success, checksum, execution_time) \
            values (9999, 'later', true, '\\x00', 0); drop index users_email_lower_idx",
        )
        .await;
    let (code, _, complaints) = run(billsync(&["inspect", "db", "--fix-indexes"]).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("a newer version of billsync has migrated this database"), "{complaints}");
}

#[tokio::test]
async fn it_is_told_line_by_line() {
    let database = database().await;
    database.execute("drop index users_email_lower_idx").await;
    let shown = on(&database.url, &["inspect", "db"], 0);
    assert!(shown.contains("create index concurrently users_email_lower_idx on public.users (lower(email))"), "{shown}");
    assert!(shown.contains("fix: billsync inspect db --fix-indexes"), "{shown}");
    let made = on(&database.url, &["inspect", "db", "--fix-indexes"], 0);
    assert!(made.starts_with("made users_email_lower_idx on public.users in "), "{made}");
}
