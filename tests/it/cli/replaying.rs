//! `replay` from the ledger, and without writing.

use billsync::ingest::committer::Options;
use serde_json::Value;

use super::{billsync, fixture, on, run};
use crate::support::database::{TestDatabase, database};
use crate::support::events::{customer_created, user_created};
use crate::support::server::{now, server_on};

fn replay_json(database: &TestDatabase, arguments: &[&str]) -> Value {
    serde_json::from_str(&on(&database.url, &[&["replay", "--json"], arguments].concat(), 0)).unwrap()
}

/// Users 1 and 2 with a customer each, of whom the customer of 1 is as if its event had failed.
async fn with_a_failed_event() -> TestDatabase {
    let database = database().await;
    let server = server_on(&database.url, Options::default()).await;
    server.link_users(1, 3).await;
    server.stop().await;
    database
        .execute(
            "update billsync.webhook_events set outcome = 'failed', reason = 'a defect' where event_id = 'evt_cus_1'; \
             delete from billsync.provider_objects where object_id = 'cus_1'; \
             delete from billsync.owners where owner_id = 'cus_1'; \
             update user_billing set stripe_customer_id = null where stripe_customer_id = 'cus_1'",
        )
        .await;
    database
}

async fn customers(database: &TestDatabase) -> i64 {
    database.ask("select count(*) from user_billing where stripe_customer_id is not null").await
}

#[tokio::test]
async fn a_failed_event_is_shown_and_then_applied() {
    let database = with_a_failed_event().await;
    let shown = on(&database.url, &["replay", "--failed", "--dry-run"], 0);
    for expected in
        ["customer.created evt_cus_1: applied", "user_billing.stripe_customer_id: - -> cus_1", "1 events, nothing was written"]
    {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
    assert_eq!((customers(&database).await, database.ledger("evt_cus_1").await.as_deref()), (1, Some("failed")));

    assert_eq!(replay_json(&database, &["--failed"])["outcomes"], serde_json::json!({"applied": 1}));
    assert_eq!((customers(&database).await, database.ledger("evt_cus_1").await.as_deref()), (2, Some("applied")));
    assert_eq!(replay_json(&database, &["--failed"])["events"], 0, "nothing is left");
}

#[tokio::test]
async fn the_ledger_is_narrowed_by_event_type_user_and_time() {
    let database = with_a_failed_event().await;
    for table in ["webhook_events", "webhook_payloads"] {
        let sql =
            format!("update billsync.{table} set received_at = received_at + interval '1 day' where event_id = 'msg_user_2'");
        database.execute(&sql).await;
    }
    for (arguments, events) in [
        (&["--event", "evt_cus_2"][..], 1),
        (&["--event", "evt_cus_2", "--event", "msg_user_1"], 2),
        (&["--type", "user.created"], 2),
        (&["--type", "user.created", "--type", "customer.created"], 4),
        (&["--user", "user_2"], 2),
        (&["--user", "user_2@example.com", "--type", "customer.created"], 1),
        (&["--user", "cus_1"], 1),
        (&["--since", "2026-03-11T00:00:00Z"], 1),
        (&["--failed", "--user", "user_2"], 0),
    ] {
        let tried: Vec<Value> = serde_json::from_value(replay_json(&database, &[&["--dry-run"], arguments].concat())).unwrap();
        assert_eq!(tried.len(), events, "{arguments:?}: {tried:?}");
        let duplicate = |line: &Value| line["outcome"] == "duplicate" || line["event_id"] == "evt_cus_1";
        assert!(tried.iter().all(duplicate), "what had not failed would change nothing: {tried:?}");
    }
    let replayed = replay_json(&database, &["--event", "evt_cus_2"]);
    assert_eq!(replayed["outcomes"], serde_json::json!({"duplicate": 1}));
}

#[tokio::test]
async fn a_dry_run_of_files_tells_each_step_and_writes_nothing() {
    let database = database().await;
    let shown = on(&database.url, &["replay", "--dry-run", &fixture("journeys/trial_to_paid")], 0);
    for expected in ["user.created", "users.email: - -> ada@example.com", "user_subscriptions.trial_start_date: - -> 2026-"] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
    for table in ["users", "billsync.webhook_events", "billsync.provider_objects", "billsync.owners"] {
        assert_eq!(database.ask::<i64>(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_told() {
    let database = database().await;
    let server = server_on(&database.url, Options::default()).await;
    for webhook in [user_created(1, now()), customer_created(1, now())] {
        assert_eq!(server.outcome(&webhook).await, "applied");
    }
    server.stop().await;
    database.execute("delete from billsync.webhook_payloads where event_id = 'evt_cus_1'").await;
    let complaint = |arguments: &[&str], exit: i32| {
        let (code, printed, complaints) = run(billsync(arguments).env("DATABASE_URL", &database.url));
        assert_eq!(code, exit, "{arguments:?}\n{printed}\n{complaints}");
        complaints
    };
    assert!(complaint(&["replay", "--event", "evt_cus_1"], 1).contains("its payload is not kept any more"));
    assert!(complaint(&["replay", "--event", "evt_0"], 1).contains("no such event in the ledger"));
    assert!(complaint(&["replay", "--failed", "x.json"], 2).contains("cannot be used with"));
    assert!(complaint(&["replay"], 2).contains("PATH"));
    assert!(complaint(&["replay", "--dry-run"], 2).contains("PATH"));
    assert!(complaint(&["replay", "--since", "yesterday"], 2).contains("a time such as 2026-"));
    assert!(complaint(&["replay", "--failed"], 0).contains("nothing to replay"));
    assert!(complaint(&["replay", "--user", "nobody@example.com", "--dry-run"], 0).contains("nothing to replay"));
    let few = ["replay", "--event", "msg_user_1", "--event", "evt_0"];
    assert!(complaint(&few, 0).contains("of 2 events only 1"), "{few:?}");

    // Of files, each mistake stands where it is, and nothing of what comes before it is kept.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::write(path("empty/notes.txt"), "{}").unwrap();
    assert!(complaint(&["replay", &path("empty")], 1).contains(".json, .ndjson and .jsonl"));
    let good = String::from_utf8(customer_created(2, now()).body).unwrap();
    for (text, expected) in [
        (format!("{good}\n{{\"id\": \"evt_2\",\n"), ":3:1: EOF"),
        (
            format!("{good}\n{{\"type\": \"payment.captured\", \"provider\": \"paypal\"}}"),
            ":2:1: not an event of Stripe's or Clerk's",
        ),
        (format!("[{good}, 1]"), "not an event of Stripe's or Clerk's"),
        (String::new(), ":1:1: no event"),
    ] {
        std::fs::write(path("bad.ndjson"), &text).unwrap();
        let told = complaint(&["replay", &path("bad.ndjson")], 1);
        assert!(told.contains("bad.ndjson:") && told.contains(expected), "{text}: {told}");
    }
    std::fs::write(path("bad.ndjson"), b"\xff\xfe").unwrap();
    assert!(complaint(&["replay", &path("bad.ndjson")], 1).contains("bad.ndjson:1:1: not valid UTF-8"));
    assert!(complaint(&["replay", &path("bad.ndjson/deeper")], 1).contains("bad.ndjson/deeper: Not a directory"));
    assert_eq!(database.ledger("evt_cus_2").await, None);
}
