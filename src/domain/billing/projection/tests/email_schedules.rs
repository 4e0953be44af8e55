//! The e-mail schedule: which messages there are, when they are due, and what the mailer's marks survive.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::domain::billing::rows::EmailEntry;

const NOW: &str = "2025-03-10T00:00:00Z";

fn schedule(world: &World, now: &str) -> BTreeMap<String, EmailEntry> {
    world.rows(now).system.email_schedule_status
}

/// `(due_at, active, suppressed)` of an entry.
fn entry(world: &World, now: &str, key: &str) -> Option<(Option<DateTime<Utc>>, bool, bool)> {
    schedule(world, now).get(key).map(|entry| (entry.due_at, entry.active, entry.suppressed))
}

fn open_invoice(subscription: &str) -> Invoice {
    Invoice {
        subscription: Some(subscription.to_owned()),
        status: "open".to_owned(),
        finalized_at: Some(t("2025-03-02T00:00:00Z")),
        ..Invoice::default()
    }
}

#[test]
fn everybody_is_welcome_at_signup() {
    let world = World::new();
    assert_eq!(schedule(&world, NOW).len(), 1);
    assert_eq!(entry(&world, NOW, "welcome:user_1"), Some((Some(t("2025-01-10T08:00:00Z")), true, false)));
    let mut unknown = World::new();
    unknown.user = None;
    assert_eq!(entry(&unknown, NOW, "welcome:user_1"), Some((None, true, false)));
}

#[test]
fn a_trial_has_two_messages() {
    let trialing = World::with([with_trial("trialing")]);
    assert_eq!(entry(&trialing, NOW, "trial_ending:sub_1"), Some((Some(t("2025-03-12T00:00:00Z")), true, false)));
    assert_eq!(entry(&trialing, NOW, "trial_ended:sub_1"), Some((Some(t(TRIAL_END)), false, false)));
    for now in [TRIAL_END, "2025-03-17T23:59:59Z"] {
        assert_eq!(entry(&trialing, now, "trial_ended:sub_1").map(|e| e.1), Some(false), "{now}");
    }
    assert_eq!(entry(&trialing, "2025-03-18T00:00:00Z", "trial_ended:sub_1").map(|e| e.1), Some(true));
    let canceled = World::with([Subscription { ended_at: Some(t(NOW)), ..with_trial("canceled") }]);
    assert_eq!(entry(&canceled, NOW, "trial_ending:sub_1"), Some((Some(t("2025-03-12T00:00:00Z")), false, false)));
    assert_eq!(entry(&canceled, NOW, "trial_ended:sub_1"), Some((Some(t(TRIAL_END)), true, false)));
}

#[test]
fn only_the_trial_that_stands_in_the_row_is_active() {
    let older = Subscription { created: Some(t("2025-01-01T00:00:00Z")), ..with_trial("paused") };
    let world = World::with([older, with_trial("trialing")]);
    let schedule = schedule(&world, NOW);
    let active: Vec<_> = schedule.iter().filter(|(_, entry)| entry.active).map(|(key, _)| key.as_str()).collect();
    assert_eq!(active, ["trial_ending:sub_2", "welcome:user_1"]);
    assert_eq!(schedule.len(), 5);
}

#[test]
fn an_open_invoice_asks_for_payment_while_the_subscription_is_past_due_or_unpaid() {
    for (status, active) in [("past_due", true), ("unpaid", true), ("active", false), ("canceled", false), ("incomplete", false)]
    {
        let mut world = World::with([subscription(status, "glow_up")]);
        world.put_invoice("in_1", open_invoice("sub_1"));
        let expected = Some((Some(t("2025-03-02T00:00:00Z")), active, false));
        assert_eq!(entry(&world, NOW, "payment_failed:in_1"), expected, "{status}");
        world.put_invoice("in_1", Invoice { status: "paid".to_owned(), ..open_invoice("sub_1") });
        assert_eq!(entry(&world, NOW, "payment_failed:in_1"), None, "{status}");
    }
}

#[test]
fn an_invoice_of_no_known_subscription_asks_for_nothing() {
    let mut world = World::with([subscription("past_due", "glow_up")]);
    world.put_invoice("in_1", open_invoice("sub_9"));
    world.put_invoice("in_2", Invoice { subscription: None, ..open_invoice("") });
    world.put_invoice("in_3", Invoice { finalized_at: None, ..open_invoice("sub_1") });
    assert_eq!(entry(&world, NOW, "payment_failed:in_1").map(|e| e.1), Some(false));
    assert_eq!(schedule(&world, NOW).len(), 2);
}

#[test]
fn what_was_due_before_the_signup_is_suppressed() {
    let mut world = World::with([subscription("past_due", "glow_up")]);
    world.put_invoice("in_1", open_invoice("sub_1"));
    for (signup, suppressed) in [("2025-03-01T23:59:59Z", false), ("2025-03-02T00:00:00Z", false), ("2025-03-02T00:00:01Z", true)]
    {
        world.user.as_mut().unwrap().fact.created_at = Some(t(signup));
        assert_eq!(entry(&world, NOW, "payment_failed:in_1").map(|e| e.2), Some(suppressed), "{signup}");
        assert_eq!(entry(&world, NOW, "welcome:user_1").map(|e| e.2), Some(false));
    }
}

#[test]
fn what_was_due_before_an_import_is_suppressed() {
    let mut world = World::with([with_trial("trialing")]);
    world.import = Some(Import { imported_at: Some(t("2025-03-13T00:00:00Z")), ..Import::default() });
    assert_eq!(entry(&world, NOW, "welcome:user_1").map(|e| e.2), Some(true));
    assert_eq!(entry(&world, NOW, "trial_ending:sub_1").map(|e| e.2), Some(true));
    assert_eq!(entry(&world, NOW, "trial_ended:sub_1").map(|e| e.2), Some(false));
}

#[test]
fn the_mailers_marks_survive_whatever_the_facts_become() {
    let mut world = World::with([with_trial("trialing")]);
    let sent = json!("2025-03-12T00:00:07Z");
    let mut rows = world.rows(NOW);
    let noted = rows.system.email_schedule_status.get_mut("trial_ending:sub_1").unwrap();
    noted.sent_at = sent.clone();
    noted.other.insert("template".to_owned(), json!("v2"));
    world.stored().rows = rows;
    let kept = schedule(&world, NOW)["trial_ending:sub_1"].clone();
    assert_eq!((kept.sent_at, kept.other["template"].clone(), kept.active), (sent.clone(), json!("v2"), true));
    world.customers[0].subscriptions.clear();
    let left = schedule(&world, NOW);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["trial_ending:sub_1", "welcome:user_1"], "unsent entries go");
    let kept = &left["trial_ending:sub_1"];
    assert_eq!((&kept.sent_at, kept.active, kept.due_at), (&sent, false, Some(t("2025-03-12T00:00:00Z"))));
}

#[test]
fn an_entry_reads_like_the_documented_one() {
    let entries = schedule(&World::with([with_trial("trialing")]), NOW);
    let text: Value = serde_json::to_value(&entries["trial_ending:sub_1"]).unwrap();
    assert_eq!(text, json!({ "due_at": "2025-03-12T00:00:00Z", "active": true, "sent_at": null }));
}
