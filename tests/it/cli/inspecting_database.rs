//! `inspect db`: what it finds, and that what it mends is again as the migrations make it.

mod repairing;
mod statements;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::{fixture, on};
use crate::support::database::{TestDatabase, database, empty_database};
use crate::support::events::{Webhook, customer_created, user_created};
use crate::support::server::{now, server_on};

fn inspected(database: &TestDatabase) -> Value {
    let printed = on(&database.url, &["inspect", "db", "--json"], 0);
    serde_json::from_str(&printed).unwrap()
}

async fn with_users() -> TestDatabase {
    let database = database().await;
    on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0);
    let server = server_on(&database.url, Default::default()).await;
    server.link_users(1, 4).await;
    // A customer of a user who has not been seen, and one of nobody.
    assert_eq!(server.outcome(&customer_created(9, now())).await, "unlinked");
    let nobodys = json!({"id": "cus_77", "object": "customer", "created": now().timestamp(), "metadata": {}});
    let nobodys = crate::support::events::stripe_event("evt_77", "customer.created", now(), nobodys);
    assert_eq!(server.outcome(&nobodys).await, "unlinked");
    server.stop().await;
    database
}

fn table<'a>(report: &'a Value, schema: &str, name: &str) -> &'a Value {
    let tables = report["tables"].as_array().unwrap();
    tables.iter().find(|table| table["schema"] == schema && table["name"] == name).unwrap()
}

#[tokio::test]
async fn a_database_as_it_should_be_is_told_with_its_sizes() {
    let database = with_users().await;
    let report = inspected(&database);
    for (schema, name, rows) in [
        ("public", "users", 3),
        ("public", "user_usage", 3),
        ("public", "subscription_plans", 4),
        ("billsync", "webhook_events", 8),
        ("billsync", "webhook_payloads", 8),
    ] {
        let table = table(&report, schema, name);
        assert_eq!((&table["rows"], &table["is_ours"]), (&json!(rows), &json!(true)), "{name}");
        assert!(
            table["total_bytes"].as_i64().unwrap()
                >= table["heap_bytes"].as_i64().unwrap() + table["index_bytes"].as_i64().unwrap()
        );
    }
    assert!(table(&report, "billsync", "webhook_payloads")["partitions"].as_i64().unwrap() >= 4);
    assert!(table(&report, "billsync", "webhook_payloads")["total_bytes"].as_i64().unwrap() > 0, "those of its partitions");
    for empty in [
        "missing_tables",
        "tables_without_row_security",
        "faulty_indexes",
        "leftover_indexes",
        "users_without_rows",
        "orphans",
        "unreadable",
    ] {
        assert_eq!(report[empty], json!([]), "{empty}");
    }
    assert_eq!(report["owners_without_users"]["count"], 1);
    assert_eq!(report["owners_without_users"]["customers_of_nobody"], 1);
    assert_eq!(report["owners_without_users"]["newest"][0]["owner_id"], "cus_9");
    assert_eq!(report["slowest_statements"], Value::Null);

    let shown = on(&database.url, &["inspect", "db"], 0);
    for expected in [
        "PostgreSQL 1",
        "public.users ",
        "Row-level security: on for every table.",
        "Indexes: every one that the migrations make is there, and valid.",
        "Users without their five rows: every user has all five rows.",
        "Orphans: no row refers to one that is not there.",
        "Owners without users: 1, the newest are",
        "fix: billsync users ensure user_9",
        "Customers with objects that nobody is linked to: 1.",
        "pg_stat_statements is not installed",
        "create extension pg_stat_statements;",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
}

#[tokio::test]
async fn rows_that_lack_another_are_named() {
    let database = with_users().await;
    database
        .execute(
            "delete from user_usage where user_id = (select id from users where user_id = 'user_2'); \
            delete from user_billing where user_id in (select id from users where user_id <> 'user_1'); \
            alter table user_subscriptions drop constraint user_subscriptions_user_id_fkey; \
            alter table list_items drop constraint list_items_list_id_fkey; \
            insert into user_subscriptions (user_id) values ('00000000-0000-7000-8000-000000000001'); \
            insert into list_items (id, list_id, platform, creator_handle) values ('00000000-0000-7000-8000-000000000002', \
                '00000000-0000-7000-8000-000000000003', 'x', 'ada'); \
            insert into billsync.usage_periods values ('00000000-0000-7000-8000-000000000004', now(), now(), 0, 0, 0); \
            delete from billsync.webhook_events where event_id = 'evt_cus_3'",
        )
        .await;
    let report = inspected(&database);
    let mut rowless: Vec<(&str, i64, &Value)> = report["users_without_rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stray| (stray["relation"].as_str().unwrap(), stray["rows"].as_i64().unwrap(), &stray["examples"]))
        .collect();
    rowless.sort_unstable_by_key(|(relation, ..)| *relation);
    let (two, one) = (json!(["user_2", "user_3"]), json!(["user_2"]));
    assert_eq!(rowless, [("public.user_billing", 2, &two), ("public.user_usage", 1, &one)]);
    let orphans: Vec<(&str, i64, &str)> = report["orphans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stray| (stray["relation"].as_str().unwrap(), stray["rows"].as_i64().unwrap(), stray["what"].as_str().unwrap()))
        .collect();
    assert_eq!(
        orphans,
        [
            ("public.user_subscriptions", 1, "user_id is in no row of public.users.id"),
            ("public.list_items", 1, "list_id is in no row of public.creator_lists.id"),
            ("billsync.usage_periods", 1, "user_id is in no row of public.users.id"),
            ("billsync.webhook_payloads", 1, "the event is not in the ledger"),
        ]
    );
    let shown = on(&database.url, &["inspect", "db"], 0);
    assert!(shown.contains("user_2, user_3") && shown.contains("00000000-0000-7000-8000-000000000002"), "{shown}");
    assert!(shown.contains("evt_cus_3"), "{shown}");

    // The fixes are meant to be pasted.
    let fix = report["users_without_rows"][0]["fix"].as_str().unwrap();
    assert!(fix.starts_with("billsync rebuild --user user_2   #"), "{fix}");
    on(&database.url, &["rebuild", "--user", "user_2"], 3);
    on(&database.url, &["rebuild", "--user", "user_3"], 3);
    for stray in report["orphans"].as_array().unwrap() {
        database.execute(stray["fix"].as_str().unwrap()).await;
    }
    let mended = inspected(&database);
    assert_eq!((&mended["users_without_rows"], &mended["orphans"]), (&json!([]), &json!([])));
}

/// A relation that is added to the schema has to be looked at too.
#[tokio::test]
async fn every_reference_of_the_schema_is_looked_at() {
    let database = database().await;
    let references: Vec<String> = database
        .ask::<Value>(
            "select jsonb_agg(format('%s.%s.%s', n.nspname, c.relname, a.attname) order by 1) from pg_constraint f \
            join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace \
            join pg_attribute a on a.attrelid = c.oid and a.attnum = f.conkey[1] where f.contype = 'f'",
        )
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    assert!(references.len() > 8, "{references:?}");
    let (_, orphans) = billsync::store::statements().into_iter().find(|(name, _)| *name == "LIST_ORPHANS").unwrap();
    for reference in references {
        let (table, column) = reference.rsplit_once('.').unwrap();
        assert!(orphans.contains(&format!("from {table} c where c.{column} is not null")), "{reference} is not looked at");
    }
}

#[tokio::test]
async fn tables_that_are_open_missing_or_somebody_elses_are_told() {
    let database = database().await;
    database
        .execute(
            "alter table campaigns disable row level security; create table public.diary (day date); insert into public.diary values (now()); \
            drop table billsync.erasures",
        )
        .await;
    let report = inspected(&database);
    assert_eq!(report["tables_without_row_security"], json!(["public.campaigns", "public.diary"]));
    assert_eq!(report["missing_tables"], json!([{"schema": "billsync", "name": "erasures"}]));
    assert_eq!(
        (&table(&report, "public", "diary")["is_ours"], &table(&report, "public", "diary")["rows"]),
        (&json!(false), &json!(1))
    );
    let shown = on(&database.url, &["inspect", "db"], 0);
    assert!(shown.contains("alter table public.campaigns enable row level security;"), "{shown}");
    assert!(shown.contains("not billsync's") && shown.contains("Missing: billsync.erasures"), "{shown}");
}

/// Most deployments have no superuser: whoever owns the database does everything.
#[tokio::test]
async fn the_owner_of_the_database_needs_no_further_rights() {
    let database = empty_database().await;
    let role = format!("{}_owner", database.name);
    database
        .execute(&format!("create role {role} login password 'plain'; alter database {} owner to {role}", database.name))
        .await;
    let url = database.url_for(&role, "plain");
    on(&url, &["migrate", "run"], 0);
    let diagnosis: Value = serde_json::from_str(&on(&url, &["doctor", "--offline", "--json"], 1)).unwrap();
    let troubled = diagnosis["findings"].as_array().unwrap().iter().filter(|it| it["level"] != "ok");
    let areas: BTreeSet<&str> = troubled.map(|finding| finding["area"].as_str().unwrap()).collect();
    assert!(!areas.contains("rights") && !areas.contains("database") && !areas.contains("schema"), "{diagnosis:#}");
    let mut owner = sqlx::PgConnection::connect(&url).await.unwrap();
    owner
        .execute("drop index public.users_email_lower_idx; alter table billsync.owners drop constraint owners_pkey")
        .await
        .unwrap();
    assert!(on(&url, &["inspect", "db"], 0).contains("missing"));
    assert!(on(&url, &["inspect", "db", "--fix-indexes"], 0).contains("made owners_pkey on billsync.owners in"));
    let report: Value = serde_json::from_str(&on(&url, &["inspect", "db", "--json"], 0)).unwrap();
    assert_eq!(report["faulty_indexes"], json!([]));
    owner.close().await.unwrap();
    database.execute(&format!("reassign owned by {role} to current_user; drop owned by {role}")).await;
}

#[tokio::test]
async fn a_user_of_whom_only_the_deletion_is_known_has_all_rows() {
    let database = database().await;
    let server = server_on(&database.url, Default::default()).await;
    let body = json!({"type": "user.deleted", "object": "event", "timestamp": now().timestamp_millis(), "instance_id": "ins_1",
        "data": {"id": "user_5", "object": "user", "deleted": true}});
    server.outcome(&Webhook::clerk("msg_5", body.to_string())).await;
    server.stop().await;
    let report = inspected(&database);
    assert_eq!((table(&report, "public", "users")["rows"].clone(), report["users_without_rows"].clone()), (json!(1), json!([])));
}

#[tokio::test]
async fn indexes_that_nobody_reads_by_are_told_with_who_made_them() {
    let database = database().await;
    database.execute("create index mine_idx on users (industry); create unique index apart_idx on users (full_name)").await;
    let server = server_on(&database.url, Default::default()).await;
    server.outcome(&user_created(1, now())).await;
    server.stop().await;
    // So small a table is read as a whole unless that is forbidden.
    database.execute("set enable_seqscan = off; select count(*) from users where lower(email) = 'user_1@example.com'").await;
    let report = inspected(&database);
    let unused: Vec<(&str, bool)> = report["unused_indexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|index| (index["index"].as_str().unwrap(), index["is_of_migrations"].as_bool().unwrap()))
        .collect();
    assert!(unused.contains(&("mine_idx", false)) && unused.contains(&("scraping_jobs_keywords_idx", true)), "{unused:?}");
    for needed in ["users_pkey", "users_user_id_key", "apart_idx", "users_email_lower_idx"] {
        assert!(unused.iter().all(|(name, _)| *name != needed), "{needed}");
    }
    let shown = on(&database.url, &["inspect", "db"], 0);
    assert!(shown.contains("somebody else: drop it if nobody misses it"), "{shown}");
    assert!(shown.contains("small ones of the migrations") && !shown.contains("scraping_jobs_keywords_idx"), "{shown}");
}
