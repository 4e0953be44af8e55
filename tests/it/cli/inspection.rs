//! `replay` and `inspect`: from files to rows, and back to the events that made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use billsync::clock::Clock;
use billsync::domain::rules::Rules;
use billsync::ingest::transaction;
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{billsync, fixture, on, run};
use crate::stories::dialect::Dialect;
use crate::stories::journey::{catalog, load_all};
use crate::support::database::{TestDatabase, database};

#[tokio::test]
async fn replayed_events_end_in_rows_that_inspect_explains() {
    let database = database().await;
    on(&database.url, &["plans", "apply", &fixture("journeys/plans.toml")], 0);
    let story = fixture("journeys/trial_to_paid");
    // Who it is first: what an event changes depends on what came before, and events of two owners come in any order.
    on(&database.url, &["replay", &format!("{story}/01_user.created.json")], 0);
    let replayed: serde_json::Value = serde_json::from_str(&on(&database.url, &["replay", &story, "--json"], 0)).unwrap();
    // Beside the events lie expected.json and README.md.
    let events = std::fs::read_dir(&story).unwrap().count() - 2;
    assert_eq!(replayed["events"], events);
    assert!(replayed["outcomes"]["applied"].as_u64().unwrap() > 0, "{replayed}");
    let again = on(&database.url, &["replay", &story], 0);
    assert!(
        again.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["duplicate", &events.to_string()]),
        "{again}"
    );

    for who in [&["ada@example.com"][..], &["--email", "ADA@example.com"], &["--customer", "cus_ada"], &["user_ada"]] {
        let shown = on(&database.url, &[&["inspect", "user"], who].concat(), 0);
        for expected in [
            "customer cus_ada, linked by",
            "user_subscriptions.trial_status: ",
            "user_subscriptions.current_plan: free -> glow_up",
            "stripe subscription sub_ada",
            "Timeline",
        ] {
            assert!(shown.contains(expected), "{who:?}: no {expected:?} in\n{shown}");
        }
    }

    let shown: serde_json::Value =
        serde_json::from_str(&on(&database.url, &["inspect", "user", "user_ada", "--json"], 0)).unwrap();
    assert_eq!(shown["profile"]["user_subscriptions"]["subscription_status"], "active");
    assert_eq!(shown["timeline"].as_array().unwrap().len(), events);
    let setter = shown["set_by"]["user_subscriptions.trial_conversion_date"].clone();
    assert_eq!(setter["event_type"], "invoice.paid", "{shown}");

    let event_id = setter["event_id"].as_str().unwrap();
    let event = on(&database.url, &["inspect", "event", event_id], 0);
    for expected in ["invoice.paid", "applied", "trial_conversion_date", "\"object\": \"event\"", "by replay"] {
        assert!(event.contains(expected), "no {expected:?} in\n{event}");
    }
}

#[tokio::test]
async fn nobody_and_nothing_is_a_failure() {
    let database = database().await;
    for arguments in
        [["inspect", "user", "user_nobody"], ["inspect", "user", "nobody@example.com"], ["inspect", "event", "evt_0"]]
    {
        let (code, _, complaints) = run(billsync(&arguments).env("DATABASE_URL", &database.url));
        assert_eq!(code, 1, "{arguments:?}");
        assert!(complaints.contains("no such"), "{complaints}");
    }
}

#[tokio::test]
async fn a_malformed_file_is_located_and_nothing_is_replayed() {
    let database = database().await;
    let folder = tempfile::tempdir().unwrap();
    let good = fixture("journeys/trial_to_paid/01_user.created.json");
    let bad = folder.path().join("events.ndjson");
    std::fs::write(
        &bad,
        "{\"id\": \"evt_1\", \"object\": \"event\", \"created\": 1, \"type\": \"a\", \"data\": {}}\n{\"id\": }\n",
    )
    .unwrap();
    let (code, _, complaints) = run(billsync(&["replay", &good]).arg(&bad).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("events.ndjson:2:8: expected value"), "{complaints}");
    on(&database.url, &["inspect", "user", "user_ada"], 1);

    let missing = folder.path().join("missing.json");
    let (code, _, complaints) = run(billsync(&["replay"]).arg(&missing).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(complaints.contains("missing.json"), "{complaints}");
}

#[tokio::test]
async fn events_that_cannot_be_read_are_listed_and_end_in_exit_code_1() {
    let database = database().await;
    let folder = tempfile::tempdir().unwrap();
    let event = |id: &str, object: &str| {
        format!(
            "{{\"id\": \"{id}\", \"object\": \"event\", \"api_version\": \"2025-09-30.clover\", \"created\": 1790000000, \
             \"livemode\": false, \"type\": \"customer.subscription.updated\", \"data\": {{\"object\": {object}}}}}\n"
        )
    };
    let file = folder.path().join("events.json");
    let text = event("evt_ok", "{\"id\": \"ch_1\", \"object\": \"charge\"}")
        + &event("evt_bad", "{\"id\": \"sub_1\", \"object\": \"subscription\"}");
    std::fs::write(&file, text).unwrap();
    let (code, printed, complaints) = run(billsync(&["replay"]).arg(&file).env("DATABASE_URL", &database.url));
    assert_eq!(code, 1);
    assert!(printed.contains("failed") && printed.contains("ignored"), "{printed}");
    assert!(complaints.contains("events.json:2:1: data.object."), "{complaints}");
    assert!(on(&database.url, &["inspect", "event", "evt_bad"], 0).contains("failed"));
}

#[tokio::test]
async fn one_long_value_does_not_push_the_other_columns_out_of_sight() {
    let database = database().await;
    let now = "2026-03-10T12:00:00Z".parse().unwrap();
    let server = crate::support::server::server_on(&database.url, billsync::ingest::committer::Options::default()).await;
    assert_eq!(server.outcome(&crate::support::events::user_created(1, now)).await, "applied");
    database.execute("update users set brand_description = repeat('a long word ', 300)").await;
    let shown = on(&database.url, &["inspect", "user", "user_1"], 0);
    let longest = shown.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 250, "{longest} columns in\n{shown}");
    assert!(shown.lines().all(|line| line.trim_end() == line), "no line ends in blanks");
}

/// A story told one event an hour; the projected rows after each, read at once.
async fn told_by_the_hour(story: &str, user: &str) -> (TestDatabase, BTreeMap<DateTime<Utc>, Value>) {
    let database = database().await;
    let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
    store.apply_plans(catalog(None).plans()).await.unwrap();
    let start: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
    store.ensure_payload_partitions(start).await.unwrap();
    let journey = load_all().into_iter().find(|journey| journey.name == story).unwrap();
    let mut then = BTreeMap::new();
    for (event, hours) in journey.events(Dialect::Newest).into_iter().zip(0..) {
        let at = start + TimeDelta::hours(hours);
        transaction::commit(&store, &[Arc::new(event)], &Rules::default(), &Clock::manual(at)).await.unwrap();
        if let Some(profile) = store.find_profile(user).await.unwrap() {
            then.insert(at, json!(profile));
        }
    }
    store.close().await;
    (database, then)
}

#[tokio::test]
async fn a_user_is_shown_as_they_were_at_any_time() {
    for (story, user) in [("trial_to_paid", "user_ada"), ("link_moves", "user_gil")] {
        let Some(user) = load_all().into_iter().find(|journey| journey.name == story).and_then(|journey| {
            let users = journey.expected.users.keys().cloned().collect::<Vec<_>>();
            users.iter().find(|known| known.as_str() == user).or(users.first()).cloned()
        }) else {
            panic!("{story} has users")
        };
        let (database, then) = told_by_the_hour(story, &user).await;
        for (at, profile) in &then {
            // The ledger is asked by when events were received: half an hour later nothing else has happened.
            let at = (*at + TimeDelta::minutes(30)).to_rfc3339();
            let shown = on(&database.url, &["inspect", "user", "--user-id", &user, "--at", &at, "--json"], 0);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            for (table, row) in shown["rows"].as_object().unwrap() {
                for (column, value) in row.as_object().unwrap() {
                    let instant = |value: &Value| value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
                    let expected = &profile[table][column];
                    // Where a period began is told by the archive, to which a late reset is punctual.
                    let archived = ["usage_period_start", "usage_reset_date"].contains(&column.as_str());
                    let same = value == expected || instant(value).is_some() && instant(value) == instant(expected);
                    assert!(
                        same || archived || same_entries(value, expected),
                        "{story} {at} {table}.{column}: {value}, was {expected}"
                    );
                }
            }
        }
        let first = (*then.keys().next().unwrap() - TimeDelta::minutes(30)).to_rfc3339();
        let (code, _, complaints) =
            run(billsync(&["inspect", "user", "--user-id", &user, "--at", &first]).env("DATABASE_URL", &database.url));
        assert_eq!(code, 1);
        assert!(complaints.contains("had no rows at"), "{complaints}");
    }
}

/// Entries of a schedule whose instants are spelled in two ways.
fn same_entries(a: &Value, b: &Value) -> bool {
    let spelled = |value: &Value| value.to_string().replace("+00:00", "Z");
    spelled(a) == spelled(b)
}

#[tokio::test]
async fn what_retention_has_dropped_is_told_instead_of_guessed() {
    let (database, then) = told_by_the_hour("trial_to_paid", "user_ada").await;
    let times: Vec<String> = then.keys().map(|at| (*at + TimeDelta::minutes(30)).to_rfc3339()).collect();
    let dropped = format!("delete from billsync.webhook_payloads where received_at < '{}'", times[3]);
    database.execute(&dropped).await;
    let (code, printed, complaints) =
        run(billsync(&["inspect", "user", "user_ada", "--at", &times[1]]).env("DATABASE_URL", &database.url));
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(complaints.contains("retention") && complaints.contains("2 later events"), "{complaints}");
    assert!(on(&database.url, &["inspect", "user", "user_ada", "--at", &times[3]], 0).contains("user_ada as of"));
}

#[tokio::test]
async fn a_column_is_set_by_an_event_however_long_ago() {
    let (database, _) = told_by_the_hour("trial_to_paid", "user_ada").await;
    let shown: Value =
        serde_json::from_str(&on(&database.url, &["inspect", "user", "user_ada", "--limit", "1", "--json"], 0)).unwrap();
    assert_eq!(shown["timeline"].as_array().unwrap().len(), 1);
    assert_eq!(shown["set_by"]["users.email"]["event_type"], "user.created");
}
