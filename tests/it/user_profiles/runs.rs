//! One run, a second one, and what happens between them.

use billsync::ingest::committer::Options;
use serde_json::json;

use super::{import, lines, state, with_profiles};
use crate::cli::{on, run_on};
use crate::support::database::empty_database;
use crate::support::events::{customer_created, stripe_event, subscription, user_created};
use crate::support::server::server_on;

const ADA_AND_BEN: &str = "insert into user_profiles (user_id, email, full_name, business_name, onboarding_step, is_admin, \
    current_plan, intended_plan, subscription_status, trial_status, trial_start_date, trial_end_date, trial_conversion_date, \
    subscription_renewal_date, stripe_customer_id, stripe_subscription_id, payment_method_id, card_last_4, card_brand, \
    card_exp_month, card_exp_year, billing_address_city, billing_address_country, billing_address_postal_code, \
    usage_campaigns_current, usage_creators_current_month, enrichments_current_month, signup_timestamp, email_schedule_status) values \
    ('user_1', 'user_1@example.com', 'Ada', 'Ada Ltd', 'completed', true, 'glow_up', 'viral_surge', 'active', 'converted', \
     '2025-02-01 10:00', '2025-02-08 10:00', '2025-02-08 11:00', '2026-04-08 10:00', 'cus_1', 'sub_1', 'pm_1', '4242', 'visa', \
     4, 2031, 'Berlin', 'DE', '10115', 2, 37, 5, '2025-02-01 09:00', '{\"welcome:user_1\": {\"sent_at\": \"2025-02-01T09:05:00Z\"}}'), \
    ('user_2', 'ben@example.com', null, null, 'step-1', false, 'free', null, 'none', 'pending', null, null, null, null, null, \
     null, null, null, null, null, null, null, null, null, 0, 3, 0, null, null)";

#[tokio::test]
async fn every_value_lands_in_its_column_and_a_second_run_changes_nothing() {
    let database = with_profiles(ADA_AND_BEN).await;
    let before = state(&database).await;
    let tried = import(&database, &["--dry-run"], 0);
    assert_eq!((&tried["rows"], &tried["imported"]), (&json!(2), &json!(2)));
    assert_eq!(state(&database).await, before);

    let report = import(&database, &[], 0);
    assert_eq!((&report["rows"], &report["imported"], &report["skipped"]), (&json!(2), &json!(2), &json!([])));
    assert_eq!((&report["verified"]["found"], &report["verified"]["wrong"]), (&json!(2), &json!([])), "{report}");
    assert!(report["verified"]["values"].as_u64().unwrap() > 50, "{report}");
    let columns: Vec<&str> = report["unmapped"].as_array().unwrap().iter().map(|u| u["column"].as_str().unwrap()).collect();
    assert_eq!(columns, ["id", "plan_campaigns_limit", "plan_features", "usage_reset_date", "last_webhook_event"]);

    let ada: serde_json::Value = serde_json::from_str(
        &database
            .ask::<String>(
                "select (to_jsonb(u) || to_jsonb(s) || to_jsonb(b) || to_jsonb(g) || to_jsonb(d))::text from users u \
                join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
                join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id where u.user_id = 'user_1'",
            )
            .await,
    )
    .unwrap();
    for (column, expected) in [
        ("email", json!("user_1@example.com")),
        ("full_name", json!("Ada")),
        ("business_name", json!("Ada Ltd")),
        ("onboarding_step", json!("completed")),
        ("is_admin", json!(true)),
        ("current_plan", json!("glow_up")),
        ("intended_plan", json!("viral_surge")),
        ("trial_status", json!("converted")),
        ("stripe_subscription_id", json!("sub_1")),
        ("card_exp_year", json!(2031)),
        ("billing_address_postal_code", json!("10115")),
        ("usage_campaigns_current", json!(2)),
        ("usage_creators_current_month", json!(37)),
        ("enrichments_current_month", json!(5)),
        ("plan_creators_limit", json!(1000)),
        ("billing_sync_status", json!("synced")),
    ] {
        assert_eq!(ada[column], expected, "{column}");
    }
    assert_eq!(ada["email_schedule_status"]["welcome:user_1"]["sent_at"], "2025-02-01T09:05:00Z");
    let instants: String = database
        .ask("select concat_ws(' ', to_char(trial_end_date at time zone 'UTC', 'MM-DD HH24:MI'), to_char(u.created_at at time zone 'UTC', \
            'YYYY-MM-DD')) from users u join user_subscriptions s on s.user_id = u.id where u.user_id = 'user_1'")
        .await;
    assert_eq!(instants, "02-08 10:00 2025-01-01");
    let link: String =
        database.ask("select clerk_user_id || ' ' || linked_by from billsync.owners where owner_id = 'cus_1'").await;
    assert_eq!(link, "user_1 imported");

    let before = state(&database).await;
    let again = import(&database, &[], 0);
    assert_eq!((&again["imported"], &again["unchanged"], &again["verified"]["wrong"]), (&json!(0), &json!(2), &json!([])));
    assert_eq!(state(&database).await, before);
    assert!(on(&database.url, &["rebuild"], 0).contains("no difference"));
}

#[tokio::test]
async fn a_provider_that_has_spoken_wins_whoever_comes_first() {
    for is_import_first in [true, false] {
        let database = with_profiles(ADA_AND_BEN).await;
        let server = server_on(&database.url, Options::default()).await;
        if is_import_first {
            import(&database, &[], 0);
        }
        let now = server.clock.now();
        server.outcome(&user_created(1, now)).await;
        server.outcome(&customer_created(1, now)).await;
        let mut ended = subscription(1, now);
        ended["status"] = json!("past_due");
        let event = stripe_event("evt_1", "customer.subscription.updated", now, ended);
        assert_eq!(server.outcome(&event).await, "applied");
        server.stop().await;
        if !is_import_first {
            let report = import(&database, &[], 0);
            assert_eq!((&report["verified"]["superseded"], &report["verified"]["wrong"]), (&json!(1), &json!([])), "{report}");
        }
        let lines = lines(&database).await;
        assert_eq!(lines[0], "user_1 user_1@example.com glow_up past_due pending cus_1 37", "import first: {is_import_first}");
        assert_eq!(lines[1], "user_2 ben@example.com free none pending - 3");
        let name: String = database.ask("select full_name from users where user_id = 'user_1'").await;
        assert_eq!(name, "Ada No. 1");
    }
}

#[tokio::test]
async fn events_that_waited_for_a_link_are_applied_by_the_import() {
    let database = with_profiles(ADA_AND_BEN).await;
    let server = server_on(&database.url, Options::default()).await;
    let event = stripe_event("evt_1", "customer.subscription.updated", server.clock.now(), subscription(1, server.clock.now()));
    assert_eq!(server.outcome(&event).await, "unlinked");
    server.stop().await;
    import(&database, &[], 0);
    let row: String = database
        .ask(
            "select subscription_status || ' ' || trial_status || ' ' || stripe_subscription_id from user_subscriptions s \
            join user_billing b on b.user_id = s.user_id where stripe_customer_id = 'cus_1'",
        )
        .await;
    assert_eq!(row, "active pending sub_1");
}

#[tokio::test]
async fn what_the_application_has_written_stays_and_what_the_old_one_wrote_follows() {
    let database = with_profiles(ADA_AND_BEN).await;
    import(&database, &[], 0);
    database
        .execute(
            "update users set business_name = 'Ada GmbH' where user_id = 'user_1'; \
            update user_usage set usage_creators_current_month = 0; \
            update user_profiles set business_name = 'Old Ltd', industry = 'beauty', current_plan = 'viral_surge', \
                usage_creators_current_month = 40, usage_campaigns_current = 3 where user_id = 'user_1'",
        )
        .await;
    let report = import(&database, &[], 0);
    assert_eq!((&report["imported"], &report["unchanged"], &report["verified"]["wrong"]), (&json!(1), &json!(1), &json!([])));
    let explained = report["verified"]["explained"].to_string();
    assert!(explained.contains("business_name") && explained.contains("usage_creators_current_month"), "{explained}");
    let row: String = database
        .ask("select concat_ws(' ', business_name, industry, current_plan, usage_creators_current_month, usage_campaigns_current) \
            from users u join user_subscriptions s on s.user_id = u.id join user_usage g on g.user_id = u.id where u.user_id = 'user_1'")
        .await;
    assert_eq!(row, "Ada GmbH beauty viral_surge 0 3");
}

#[tokio::test]
async fn an_erased_person_is_not_brought_back() {
    let database = with_profiles(ADA_AND_BEN).await;
    import(&database, &[], 0);
    on(&database.url, &["users", "delete", "user_1", "--yes"], 0);
    let report = import(&database, &[], 1);
    assert_eq!(report["left"][0]["reason"], "erased", "{report}");
    assert_eq!(database.ask::<i64>("select count(*) from users where user_id = 'user_1'").await, 0);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.provider_objects where object_id = 'user_1'").await, 0);
}

#[tokio::test]
async fn the_older_layout_is_filled_and_adopted_tables_are_not_overwritten() {
    let database = empty_database().await;
    database.execute(include_str!("../baseline/older_layout.sql")).await;
    let (_, script, _) = run_on(&database.url, &["migrate", "baseline"]);
    database.execute(&script).await;
    on(&database.url, &["migrate", "baseline"], 0);
    on(&database.url, &["plans", "apply", &crate::cli::fixture("journeys/plans.toml")], 0);
    let report = import(&database, &[], 0);
    assert_eq!((&report["imported"], &report["verified"]["wrong"]), (&json!(2), &json!([])), "{report}");
    assert_eq!(
        lines(&database).await,
        ["user_1 user_1@example.com glow_up active pending cus_1 12", "user_2 two@example.com free none pending - 0"]
    );

    let database = empty_database().await;
    database.execute(include_str!("../baseline/drizzle.sql")).await;
    database.execute(super::WIDE).await;
    database
        .execute("insert into user_profiles (user_id, current_plan, subscription_status) values ('user_1', 'free', 'canceled')")
        .await;
    let (_, script, _) = run_on(&database.url, &["migrate", "baseline"]);
    database.execute(&script).await;
    on(&database.url, &["migrate", "baseline"], 0);
    on(&database.url, &["plans", "apply", &crate::cli::fixture("journeys/plans.toml")], 0);
    let report = import(&database, &[], 0);
    assert_eq!((&report["kept"], &report["imported"]), (&json!(1), &json!(0)), "{report}");
    assert_eq!(lines(&database).await[0], "user_1 user_1@example.com glow_up active converted cus_1 37");
}

#[tokio::test]
async fn other_tables_and_views_and_none() {
    let database = with_profiles("select 1").await;
    database
        .execute(
            "create schema legacy; create table legacy.\"Profiles\" (\"clerkId\" text, \"emailAddress\" text, plan text); \
            insert into legacy.\"Profiles\" values ('user_7', 'seven@example.com', 'Glow Up'); \
            create view public.mapped as select \"clerkId\" as user_id, plan as current_plan from legacy.\"Profiles\"; \
            create table public.nobody (name text)",
        )
        .await;
    for name in ["mapped", "legacy.Profiles", "legacy.\"Profiles\"", "Profiles"] {
        let report = import(&database, &["--from", name, "--dry-run"], 0);
        assert_eq!(report["imported"], 1, "{name}: {report}");
    }
    let text = on(&database.url, &["import", "user-profiles", "--from", "legacy.Profiles"], 0);
    assert!(text.contains("1 users imported") && text.contains("rows/s"), "{text}");
    assert_eq!(lines(&database).await, ["user_7 seven@example.com glow_up none pending - 0"]);
    for (name, words) in [("missing", "no table or view missing"), ("nobody", "no column"), ("x'; drop table users", "no table")]
    {
        let (code, printed, complaints) = run_on(&database.url, &["import", "user-profiles", "--from", name]);
        assert_eq!((code, printed.as_str()), (1, ""), "{complaints}");
        assert!(complaints.contains(words), "{complaints}");
    }
    let (code, _, complaints) = run_on(&database.url, &["import", "user-profiles", "--from", "subscription_plans"]);
    assert_eq!(code, 1, "{complaints}");
    assert!(complaints.contains("is it the table that is meant"), "{complaints}");
    assert_eq!(run_on(&database.url, &["import", "user-profiles", "--batch", "0"]).0, 2);
}
