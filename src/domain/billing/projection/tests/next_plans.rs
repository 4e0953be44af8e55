//! `intended_plan`: pending updates, schedules, scheduled cancels, requests and checkouts.

use super::*;
use crate::domain::billing::facts::{CheckoutSession, PendingUpdate, SchedulePhase, SubscriptionSchedule};

const NOW: &str = "2025-03-10T00:00:00Z";

fn price(plan: &str) -> Price {
    item(plan).price
}

fn pending(plan: &str, expires_at: Option<&str>) -> Option<PendingUpdate> {
    Some(PendingUpdate { expires_at: expires_at.map(t), items: vec![item(plan)] })
}

fn schedule(status: &str, created: &str, phases: &[(&str, &str)]) -> SubscriptionSchedule {
    let phase = |(start, plan): &(&str, &str)| SchedulePhase { start_date: Some(t(start)), prices: vec![price(plan)] };
    SubscriptionSchedule {
        customer: Some("cus_1".to_owned()),
        subscription: Some("sub_1".to_owned()),
        status: status.to_owned(),
        created: Some(t(created)),
        phases: phases.iter().map(phase).collect(),
        test_clock: None,
    }
}

impl World {
    fn put_schedule(&mut self, id: &str, schedule: SubscriptionSchedule) -> &mut World {
        self.customers[0].schedules.insert(id.to_owned(), known(id, schedule));
        self
    }

    fn put_session(&mut self, id: &str, created: &str, session: CheckoutSession) -> &mut World {
        let session = CheckoutSession { created: Some(t(created)), ..session };
        self.customers[0].sessions.insert(id.to_owned(), known(id, session));
        self
    }

    fn intended(&self, now: &str) -> Option<String> {
        self.subscription_row(now).intended_plan
    }
}

fn session(status: &str, plan: &str) -> CheckoutSession {
    CheckoutSession {
        mode: Some("subscription".to_owned()),
        status: status.to_owned(),
        plan_key: Some(plan.to_owned()),
        ..CheckoutSession::default()
    }
}

#[test]
fn a_pending_update_counts_until_it_expires() {
    let upgrade = Subscription { pending_update: pending("fame_flex", Some(NOW)), ..subscription("active", "glow_up") };
    let world = World::with([upgrade]);
    assert_eq!(world.intended("2025-03-09T23:59:59Z").as_deref(), Some("fame_flex"));
    assert_eq!(world.subscription_row("2025-03-09T23:59:59Z").next_change_at, Some(t(NOW)));
    assert_eq!(world.intended(NOW), None);
    assert_eq!(world.intended("2025-03-10T00:00:01Z"), None);
    let without_expiry = Subscription { pending_update: pending("fame_flex", None), ..subscription("active", "glow_up") };
    assert_eq!(World::with([without_expiry]).intended(NOW).as_deref(), Some("fame_flex"));
}

#[test]
fn a_pending_update_goes_before_a_schedule_unless_it_keeps_the_plan() {
    let later = [("2025-04-01T00:00:00Z", "viral_surge")];
    let upgrade = |plan| Subscription { pending_update: pending(plan, None), ..subscription("active", "glow_up") };
    let mut world = World::with([upgrade("fame_flex")]);
    world.put_schedule("sub_sched_1", schedule("active", "2025-03-01T00:00:00Z", &later));
    assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"));
    world.put("sub_1", upgrade("glow_up"));
    assert_eq!(world.intended(NOW).as_deref(), Some("viral_surge"));
    world.put("sub_1", upgrade("unknown"));
    assert_eq!(world.intended(NOW).as_deref(), Some("viral_surge"), "an unmapped price announces nothing");
}

#[test]
fn a_schedule_announces_its_first_phase_after_now() {
    let phases =
        [("2025-05-01T00:00:00Z", "fame_flex"), ("2025-03-01T00:00:00Z", "glow_up"), ("2025-04-01T00:00:00Z", "viral_surge")];
    let mut world = World::with([subscription("active", "glow_up")]);
    world.put_schedule("sub_sched_1", schedule("active", "2025-03-01T00:00:00Z", &phases));
    let row = world.subscription_row("2025-03-31T23:59:59Z");
    assert_eq!(row.intended_plan.as_deref(), Some("viral_surge"));
    assert_eq!(row.next_change_at, Some(t("2025-04-01T00:00:00Z")));
    let row = world.subscription_row("2025-04-01T00:00:00Z");
    assert_eq!(row.intended_plan.as_deref(), Some("fame_flex"), "a phase has begun at its start");
    assert_eq!(row.next_change_at, Some(t("2025-05-01T00:00:00Z")));
    assert_eq!(world.intended("2025-05-01T00:00:00Z"), None);
}

#[test]
fn a_phase_of_the_same_plan_announces_nothing_and_hides_what_follows() {
    let phases = [("2025-04-01T00:00:00Z", "glow_up"), ("2025-05-01T00:00:00Z", "fame_flex")];
    let mut world = World::with([subscription("active", "glow_up")]);
    world.put_schedule("sub_sched_1", schedule("active", "2025-03-01T00:00:00Z", &phases));
    assert_eq!(world.intended(NOW), None);
    assert_eq!(world.intended("2025-04-01T00:00:00Z").as_deref(), Some("fame_flex"));
}

#[test]
fn only_the_newest_active_schedule_of_this_subscription_counts() {
    let to = |plan| [("2025-04-01T00:00:00Z", plan)];
    let mut world = World::with([subscription("active", "glow_up")]);
    world.put_schedule("sub_sched_1", schedule("released", "2025-03-05T00:00:00Z", &to("fame_flex")));
    assert_eq!(world.intended(NOW), None);
    let other = SubscriptionSchedule {
        subscription: Some("sub_2".to_owned()),
        ..schedule("active", "2025-03-05T00:00:00Z", &to("fame_flex"))
    };
    world.put_schedule("sub_sched_2", other);
    assert_eq!(world.intended(NOW), None);
    world.put_schedule("sub_sched_3", schedule("active", "2025-03-04T00:00:00Z", &to("free")));
    world.put_schedule("sub_sched_4", schedule("active", "2025-03-03T00:00:00Z", &to("fame_flex")));
    assert_eq!(world.intended(NOW).as_deref(), Some("free"), "a downgrade at the period's end");
}

#[test]
fn a_phases_plan_is_its_highest_price() {
    let mut with_addons = schedule("active", "2025-03-01T00:00:00Z", &[("2025-04-01T00:00:00Z", "viral_surge")]);
    with_addons.phases[0].prices = vec![price("unknown"), price("viral_surge"), price("fame_flex")];
    let mut world = World::with([subscription("active", "glow_up")]);
    world.put_schedule("sub_sched_1", with_addons);
    assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"));
}

#[test]
fn a_scheduled_cancel_intends_the_free_plan() {
    for status in ["trialing", "active", "past_due", "a_status_of_2031"] {
        let by_boolean = Subscription { cancel_at_period_end: true, ..subscription(status, "glow_up") };
        assert_eq!(World::with([by_boolean]).intended(NOW).as_deref(), Some("free"), "{status}");
        let by_date = Subscription { cancel_at: Some(t("2025-06-01T00:00:00Z")), ..subscription(status, "glow_up") };
        assert_eq!(World::with([by_date]).intended(NOW).as_deref(), Some("free"), "{status}");
    }
    for status in ["unpaid", "paused", "incomplete"] {
        let cancelled = Subscription { cancel_at_period_end: true, ..subscription(status, "glow_up") };
        assert_eq!(World::with([cancelled]).intended(NOW).as_deref(), Some("glow_up"), "{status}");
    }
}

#[test]
fn a_request_counts_only_without_a_live_subscription_and_after_the_last_ones_end() {
    let ended = "2025-03-05T00:00:00Z";
    let dead = Subscription { ended_at: Some(t(ended)), ..subscription("canceled", "glow_up") };
    for (requested_at, expected) in [("2025-03-04T23:59:59Z", None), (ended, None), ("2025-03-05T00:00:01Z", Some("fame_flex"))] {
        let mut world = World::with([dead.clone()]);
        world.stored().requested_plan = Some("fame_flex".to_owned());
        world.stored().requested_at = Some(t(requested_at));
        assert_eq!(world.intended(NOW).as_deref(), expected, "{requested_at}");
        world.put("sub_2", subscription("active", "glow_up"));
        assert_eq!(world.intended(NOW), None, "{requested_at}");
    }
}

#[test]
fn a_request_of_somebody_who_never_subscribed_counts() {
    for mut world in [World::new(), World::with_customer()] {
        world.stored().requested_plan = Some("fame_flex".to_owned());
        assert_eq!(world.intended(NOW), None, "a plan without an instant was not requested");
        world.stored().requested_at = Some(t("2025-01-11T00:00:00Z"));
        assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"));
    }
}

#[test]
fn the_last_end_is_the_latest_of_all_subscriptions() {
    let ended = |at: &str| Subscription { ended_at: Some(t(at)), ..subscription("canceled", "glow_up") };
    let expired = Subscription { created: Some(t("2025-03-07T00:00:00Z")), ..subscription("incomplete_expired", "glow_up") };
    let mut world = World::with([ended("2025-03-05T00:00:00Z"), ended("2025-02-05T00:00:00Z"), expired]);
    world.stored().requested_plan = Some("fame_flex".to_owned());
    world.stored().requested_at = Some(t("2025-03-06T00:00:00Z"));
    assert_eq!(world.intended(NOW), None, "what expired without a date ended after it was created");
    world.stored().requested_at = Some(t("2025-03-08T00:00:00Z"));
    assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"));
}

#[test]
fn else_the_newest_unfinished_checkout_counts() {
    let mut world = World::with_customer();
    world.put_session("cs_1", "2025-03-01T00:00:00Z", session("open", "glow_up"));
    assert_eq!(world.intended(NOW).as_deref(), Some("glow_up"));
    world.put_session("cs_2", "2025-03-02T00:00:00Z", session("expired", "fame_flex"));
    let payment = CheckoutSession { mode: Some("payment".to_owned()), ..session("open", "fame_flex") };
    world.put_session("cs_3", "2025-03-03T00:00:00Z", payment);
    assert_eq!(world.intended(NOW).as_deref(), Some("glow_up"));
    let complete = CheckoutSession { subscription: Some("sub_9".to_owned()), ..session("complete", "viral_surge") };
    world.put_session("cs_4", "2025-03-04T00:00:00Z", complete);
    assert_eq!(world.intended(NOW).as_deref(), Some("viral_surge"), "its subscription has not been seen");
    world.put("sub_9", Subscription { ended_at: Some(t(NOW)), ..subscription("canceled", "viral_surge") });
    assert_eq!(world.intended(NOW).as_deref(), Some("glow_up"));
    world.put_session("cs_5", "2025-03-05T00:00:00Z", session("complete", "fame_flex"));
    assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"), "it does not name its subscription yet");
    world.put_session("cs_6", "2025-03-06T00:00:00Z", session("open", "no_such_plan"));
    assert_eq!(world.intended(NOW), None, "the newest decides, known plan or not");
}

#[test]
fn a_request_goes_before_a_checkout() {
    let mut world = World::with_customer();
    world.put_session("cs_1", "2025-03-01T00:00:00Z", session("open", "glow_up"));
    world.stored().requested_plan = Some("fame_flex".to_owned());
    world.stored().requested_at = Some(t("2025-02-01T00:00:00Z"));
    assert_eq!(world.intended(NOW).as_deref(), Some("fame_flex"));
}
