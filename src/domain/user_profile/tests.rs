//! Rows as they are found in the wild.

use serde_json::{Value, json};

use super::*;

fn read_row(row: &Value) -> Result<UserProfile, Problem> {
    let row = row.as_object().unwrap();
    let names: Vec<String> = row.keys().cloned().collect();
    read(&Mapping::of(&names), row, &["free".to_owned(), "glow_up".to_owned()])
}

fn profile(row: &Value) -> UserProfile {
    read_row(row).unwrap()
}

fn t(text: &str) -> Option<DateTime<Utc>> {
    Some(text.parse().unwrap())
}

#[test]
fn a_row_is_read_by_whatever_its_columns_are_called() {
    let snake = json!({"user_id": "user_1", "email": "a@example.com", "full_name": "Ada", "current_plan": "glow_up",
        "stripe_customer_id": "cus_1", "card_last_4": "4242", "trial_end_date": "2026-01-02T00:00:00Z"});
    let camel = json!({"clerkUserId": "user_1", "emailAddress": " a@example.com ", "firstName": "Ada", "lastName": "",
        "plan": "Glow Up", "stripeCustomerId": "cus_1", "cardLast4": 4242, "trialEndsAt": 1_767_312_000});
    assert_eq!(profile(&snake).import, profile(&camel).import);
    assert_eq!(profile(&snake).problems, []);
}

#[test]
fn a_user_id_goes_before_a_row_id() {
    assert_eq!(profile(&json!({"id": "0190", "user_id": "user_1"})).user_id, "user_1");
    assert_eq!(profile(&json!({"id": "user_2"})).user_id, "user_2");
    for row in [json!({"user_id": null}), json!({"user_id": "  "}), json!({"user_id": 5}), json!({"id": "0190"}), json!({})] {
        assert!(read_row(&row).is_err(), "{row}");
    }
}

#[test]
fn rubbish_is_left_out_and_told_by_column_without_the_value() {
    let read = profile(&json!({"user_id": "user_1", "email": "hunter2 at example", "current_plan": "golden",
        "trial_end_date": "soon", "stripe_customer_id": "12345", "usage_campaigns_current": "-3",
        "onboarding_step": "step-9", "is_admin": "perhaps", "card_exp_month": 13, "billing_address_country": "Germany"}));
    let columns: Vec<&str> = read.problems.iter().map(|problem| problem.column.as_str()).collect();
    assert_eq!(
        columns,
        [
            "billing_address_country",
            "card_exp_month",
            "current_plan",
            "email",
            "is_admin",
            "onboarding_step",
            "stripe_customer_id",
            "trial_end_date",
            "usage_campaigns_current",
        ]
    );
    assert!(!format!("{:?}", read.problems).contains("hunter2"));
    assert_eq!(read.import.current_plan.as_deref(), Some("golden"));
    assert_eq!(read.import, Import { current_plan: Some("golden".to_owned()), ..Import::default() });
    assert_eq!(read.own, OwnColumns::default());
}

#[test]
fn instants_of_every_spelling_are_the_same() {
    let expected = t("2026-03-10T12:30:00Z");
    for text in [
        json!("2026-03-10T12:30:00Z"),
        json!("2026-03-10 12:30:00"),
        json!("2026-03-10 12:30:00+00"),
        json!("2026-03-10 14:30:00.000+02:00"),
        json!("2026-03-10T12:30:00.000000"),
        json!("2026-03-10 12:30"),
        json!(1_773_145_800),
        json!("1773145800"),
        json!(1_773_145_800_000_i64),
    ] {
        let read = profile(&json!({"user_id": "user_1", "trial_end_date": text}));
        assert_eq!((read.import.trial_end_date, read.problems.as_slice()), (expected, [].as_slice()), "{text}");
    }
    for text in ["infinity", "2026-02-30", "0000-00-00", "12", "NaN", "1e400", "10/03/2026"] {
        let read = profile(&json!({"user_id": "user_1", "trial_end_date": text}));
        assert_eq!((read.import.trial_end_date, read.problems.len()), (None, 1), "{text}");
    }
}

#[test]
fn marks_of_sent_mail_are_kept_and_plans_are_not() {
    let read = profile(&json!({"user_id": "user_1", "email_schedule_status":
        {"welcome:user_1": {"sent_at": "2026-01-01T00:00:00Z"}, "day_2": {"due": 1}, "note": "x"}}));
    assert_eq!(read.own.email_schedule.keys().collect::<Vec<_>>(), ["note", "welcome:user_1"]);
    assert_eq!(read.problems.len(), 1);
}

#[test]
fn columns_that_nobody_reads_are_told_with_the_reason() {
    let names: Vec<String> = ["user_id", "id", "plan_features", "favourite_colour"].map(str::to_owned).into();
    let mapping = Mapping::of(&names);
    let unmapped: Vec<&str> = mapping.unmapped().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(unmapped, ["id", "plan_features", "favourite_colour"]);
    assert_eq!(mapping.columns().collect::<Vec<_>>(), [("user_id", "user_id")]);
}
