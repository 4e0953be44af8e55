//! Rows as nobody would want them.

use serde_json::{Value, json};

use super::{import, lines, state};
use crate::cli::{fixture, on};
use crate::support::database::database;

/// Every column a text, as a spreadsheet's import makes them.
const ROWS: &str = "create table public.user_profiles (id text, user_id text, email text, current_plan text, subscription_status text, \
        trial_status text, trial_end_date text, stripe_customer_id text, usage_creators_current_month text, \
        onboarding_step text, updated_at text, preferences text); \
    insert into user_profiles values \
    ('a', null, 'null@example.com', 'glow_up', 'active', null, null, 'cus_0', '1', null, null, null), \
    ('b', '   ', null, null, null, null, null, null, null, null, null, null), \
    ('c', 'auth0|abc', null, null, null, null, null, null, null, null, null, null), \
    ('d', 'user_1', 'not an address', 'platinum', 'Cancelled', 'maybe', 'next week', 'cus_1', 'many', 'step-7', null, 'x'), \
    ('e', ' user_2 ', 'two@example.com', 'Glow-Up', 'active', 'converted', '2026-02-30', 'cus_1', '12.0', 'STEP_2', '2026-01-02', 'x'), \
    ('f', 'user_2', 'older@example.com', 'free', 'none', null, null, null, '0', null, '2026-01-01', null), \
    ('g', 'user_3', '', '', '', '', '', '', '', '', '', ''), \
    ('h', 'user_4', 'd@example.com', repeat('p', 51), 'active', 'active', 'infinity', '<script>', '99999999999', null, null, null), \
    ('i', 'user_5', 'e@example.com', 'free', 'none', 'pending', '1767312000000', 'cus_5', '-1', null, null, null)";

#[tokio::test]
async fn rows_with_rubbish_are_imported_as_far_as_they_can_be_and_the_rest_is_told() {
    let database = database().await;
    on(&database.url, &["plans", "apply", &fixture("journeys/plans.toml")], 0);
    database.execute(ROWS).await;
    let report = import(&database, &["--batch", "2"], 0);
    assert_eq!((&report["rows"], &report["imported"]), (&json!(9), &json!(5)), "{report}");
    let skipped: Vec<&str> = report["skipped"].as_array().unwrap().iter().map(|s| s["row"].as_str().unwrap()).collect();
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    for row in ["row with id a", "row with id b", "row with id c", "user_2"] {
        assert!(skipped.contains(&row), "{skipped:?}");
    }
    assert_eq!(
        lines(&database).await,
        [
            "user_1 - platinum canceled pending cus_1 0",
            "user_2 two@example.com glow_up active converted - 12",
            "user_3 - free none pending - 0",
            "user_4 d@example.com free active active - 0",
            "user_5 e@example.com free none pending cus_5 0",
        ]
    );
    let told = |user: &str| -> Vec<String> {
        let values = report["values"].as_array().unwrap().iter().filter(|value| value["row"] == user);
        values.map(|value| value["column"].as_str().unwrap().to_owned()).collect()
    };
    let of_first = ["current_plan", "email", "onboarding_step", "trial_end_date", "trial_status", "usage_creators_current_month"];
    assert_eq!(told("user_1"), of_first);
    assert_eq!(told("user_2"), ["trial_end_date"]);
    assert_eq!(told("user_3"), Vec::<String>::new());
    assert_eq!(told("user_4"), ["current_plan", "stripe_customer_id", "trial_end_date", "usage_creators_current_month"]);
    assert_eq!(told("user_5"), ["usage_creators_current_month"]);
    let values: Value = report["values"].clone();
    assert!(!values.to_string().contains("not an address") && !values.to_string().contains("script"), "{values}");
    assert_eq!(report["unmapped"][1]["column"], "preferences");

    let verified = &report["verified"];
    assert_eq!((&verified["expected"], &verified["found"], &verified["wrong"]), (&json!(5), &json!(5), &json!([])));
    let explained = &verified["explained"][0];
    assert_eq!(
        (&explained["row"], &explained["reason"]),
        (&json!("user_2"), &json!("the customer is linked to user_1, by imported"))
    );

    let before = state(&database).await;
    import(&database, &[], 0);
    assert_eq!(state(&database).await, before);
    assert!(on(&database.url, &["rebuild"], 0).contains("no difference"));
}

#[tokio::test]
async fn rows_that_no_longer_are_what_was_imported_are_told_as_wrong() {
    let database = database().await;
    database
        .execute("create table public.user_profiles (user_id text, current_plan text); insert into user_profiles values ('user_1', 'x')")
        .await;
    import(&database, &[], 0);
    database.execute("update user_subscriptions set current_plan = 'tampered'; delete from user_system_data").await;
    let report = import(&database, &[], 3);
    assert_eq!(report["verified"]["wrong"][0]["reason"], "does not have all five rows", "{report}");
    on(&database.url, &["rebuild"], 3);
    database.execute("update user_subscriptions set current_plan = 'tampered'").await;
    let report = import(&database, &[], 3);
    assert_eq!(report["verified"]["wrong"][0]["column"], "current_plan", "{report}");
}
