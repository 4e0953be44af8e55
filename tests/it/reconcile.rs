//! Reconciling against a Stripe on loopback: webhooks can be lost, late and racing, and the rows come out the same.

mod backfill;
mod catch_up;
mod clerk_history;
mod clerk_refetch;
mod commands;
mod interruptions;
mod many;
mod races;
mod refetch;
mod subsets;

use std::sync::Arc;
use std::time::Duration;

use billsync::clerk_api::{self, ClerkApi};
use billsync::clock::Clock;
use billsync::config::Secret;
use billsync::domain::event::Source;
use billsync::domain::rules::Rules;
use billsync::domain::signature::VerifiedBody;
use billsync::domain::{clerk, stripe};
use billsync::ingest::committer::{Committer, Options};
use billsync::reconcile::{Apis, Mode, Reconciler};
use billsync::store::{Store, StoreSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::stories::journey::catalog;
use crate::support::database::{TestDatabase, database};
use crate::support::events::{Webhook, customer_created, stripe_event, subscription, user_created};
use crate::support::fake_clerk::{FakeClerk, KEY};
use crate::support::server::now;
use crate::support::stripe::{FakeStripe, Fault};

/// A database, what feeds it, and the Stripe that it is compared with.
pub struct World {
    pub database: TestDatabase,
    pub store: Store,
    pub committer: Committer,
    pub fake: FakeStripe,
    pub reconciler: Reconciler,
    pub clock: Clock,
    pub rules: Arc<Rules>,
}

impl World {
    pub async fn new() -> World {
        World::with(Rules::default(), now()).await
    }

    pub async fn with(rules: Rules, now: DateTime<Utc>) -> World {
        let (database, clock, rules) = (database().await, Clock::manual(now), Arc::new(rules));
        let fake = FakeStripe::start(clock.clone()).await;
        let store = Store::connect(&StoreSettings::new(&database.url)).await.unwrap();
        store.apply_plans(catalog(None).plans()).await.unwrap();
        store.ensure_payload_partitions(now).await.unwrap();
        let committer = Committer::start(store.clone(), rules.clone(), clock.clone(), Options::default());
        let api = fake.api(clock.clone());
        let reconciler = Reconciler::new(api, store.clone(), committer.clone(), rules.clone(), clock.clone());
        World { database, store, committer, fake, reconciler, clock, rules }
    }

    /// What reads that Clerk, and no Stripe.
    pub fn reader_of(&self, fake: &FakeClerk) -> Reconciler {
        let options = clerk_api::Options { interval: Duration::from_millis(1), page_size: 100, ..clerk_api::Options::default() };
        let api = ClerkApi::new(Secret::new(KEY), &fake.base(), options, self.clock.clone()).unwrap();
        let apis = Apis { stripe: None, clerk: Some(api) };
        Reconciler::new(apis, self.store.clone(), self.committer.clone(), self.rules.clone(), self.clock.clone())
    }

    /// A webhook arrives; what it became.
    pub async fn deliver(&self, webhook: &Webhook) -> String {
        let body = VerifiedBody::from_operator(webhook.body.clone().into());
        let event = match webhook.path() {
            "/webhooks/clerk" => clerk::decode_event(&body, &webhook.id, Source::Webhook, &self.rules),
            _ => stripe::decode_event(&body, Source::Webhook, &self.rules),
        };
        self.committer.submit_patiently(event.unwrap()).await.unwrap().outcome.as_str().to_owned()
    }

    /// User 1 with a customer, both here and at Stripe, created an hour ago.
    pub async fn with_linked_customer() -> World {
        let world = World::new().await;
        let then = now() - TimeDelta::hours(1);
        for webhook in [user_created(1, then), customer_created(1, then)] {
            assert_eq!(world.deliver(&webhook).await, "applied");
        }
        world.fake.put([customer(1)]);
        world
    }

    pub async fn column(&self, table: &str, column: &str) -> Value {
        self.column_of("user_1", table, column).await
    }

    pub async fn column_of(&self, user: &str, table: &str, column: &str) -> Value {
        let profile = self.store.find_profile(user).await.unwrap().unwrap();
        json!(profile)[table][column].clone()
    }

    /// Everything that must not change when nothing is to change: rows and ledger, without the times of writing.
    pub async fn contents(&self) -> Value {
        self.database
            .ask(
                "select jsonb_build_object( \
                    'ledger', (select jsonb_agg(event_id order by event_id) from billsync.webhook_events), \
                    'facts', (select jsonb_agg(jsonb_build_array(object_id, fact, deleted_at) order by object_id) \
                        from billsync.provider_objects), \
                    'users', (select jsonb_agg(to_jsonb(u) - 'updated_at' order by u.user_id) from public.users u), \
                    'subscriptions', (select jsonb_agg(to_jsonb(s) - 'updated_at' order by s.id) from public.user_subscriptions s), \
                    'billing', (select jsonb_agg(to_jsonb(b) - 'updated_at' order by b.id) from public.user_billing b), \
                    'system', (select jsonb_agg(to_jsonb(d) - 'updated_at' order by d.id) from public.user_system_data d))",
            )
            .await
    }

    pub async fn reconcile(&self) -> billsync::reconcile::Report {
        self.reconciler.reconcile_all(Mode::Apply, &|_| {}).await.unwrap()
    }
}

/// `cus_<number>`, as `customer.created` has it.
pub fn customer(number: u32) -> Value {
    json!({"id": format!("cus_{number}"), "object": "customer", "created": (now() - TimeDelta::hours(1)).timestamp(),
        "metadata": {"clerk_user_id": format!("user_{number}")}})
}

/// A card of `cus_<number>`.
pub fn card(id: &str, number: u32, last_4: &str) -> Value {
    json!({"id": id, "object": "payment_method", "type": "card", "customer": format!("cus_{number}"), "created": 1_760_000_000,
        "card": {"brand": "visa", "last4": last_4, "exp_month": 8, "exp_year": 2031}})
}

#[tokio::test]
async fn what_never_came_is_found_named_and_mended() {
    let world = World::with_linked_customer().await;
    world.fake.put([subscription(1, now() - TimeDelta::minutes(50)), card("pm_1", 1, "4242")]);
    let event = stripe_event(
        "evt_lost",
        "customer.subscription.created",
        now() - TimeDelta::minutes(50),
        subscription(1, now() - TimeDelta::minutes(50)),
    );
    world.fake.put([serde_json::from_slice(&event.body).unwrap()]);
    let before = world.contents().await;
    let dry = world.reconciler.reconcile_all(Mode::DryRun, &|_| {}).await.unwrap();
    assert_eq!(world.contents().await, before, "a dry run changes nothing");
    let report = world.reconcile().await;
    for report in [&dry, &report] {
        let drift = report.drift.iter().find(|drift| drift.object == "sub_1").unwrap();
        assert_eq!((drift.field.as_str(), &drift.ours, drift.user.as_deref()), ("(object)", &Value::Null, Some("user_1")));
        assert_eq!(drift.theirs["status"], "active");
        assert_eq!(drift.missed_event.as_ref().unwrap().id, "evt_lost");
    }
    assert_eq!(world.column("user_subscriptions", "current_plan").await, "glow_up");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
    assert_eq!(world.column("user_billing", "card_last_4").await, "4242");
    assert_eq!(
        world.column("user_system_data", "last_webhook_event").await,
        "customer.subscription.created",
        "found as an event"
    );
    let after = world.contents().await;
    assert!(world.reconcile().await.drift.is_empty());
    assert_eq!(world.contents().await, after, "what is equal leaves no trace");
}

#[tokio::test]
async fn fields_that_differ_are_told_one_by_one() {
    let world = World::with_linked_customer().await;
    let mut theirs = subscription(1, now() - TimeDelta::minutes(50));
    world.deliver(&stripe_event("evt_1", "customer.subscription.created", now() - TimeDelta::minutes(50), theirs.clone())).await;
    theirs["status"] = "past_due".into();
    theirs["cancel_at_period_end"] = true.into();
    world.fake.put([theirs]);
    let report = world.reconciler.reconcile_customers(&["cus_1".into()], Mode::Apply).await.unwrap();
    let fields: Vec<_> =
        report.drift.iter().map(|drift| (drift.field.as_str(), drift.ours.clone(), drift.theirs.clone())).collect();
    let expected = [("cancel_at_period_end", Value::Null, json!(true)), ("status", json!("active"), json!("past_due"))];
    assert_eq!(fields, expected);
    assert_eq!(world.column("user_subscriptions", "subscription_status").await, "past_due");
    assert_eq!(world.column("user_system_data", "last_webhook_event").await, "customer.subscription.created", "no webhook came");
    let sources: Value =
        world.database.ask("select jsonb_agg(source) from billsync.webhook_events where event_id like 'read:%'").await;
    assert_eq!(sources, json!(["reconcile"]), "the one read that changed something");
}

#[tokio::test]
async fn what_the_list_leaves_out_is_asked_for_by_id() {
    let world = World::with_linked_customer().await;
    let began = now() - TimeDelta::minutes(50);
    world.deliver(&stripe_event("evt_1", "customer.subscription.created", began, subscription(1, began))).await;
    world.deliver(&stripe_event("evt_2", "payment_method.attached", began, card("pm_1", 1, "4242"))).await;
    let mut ended = subscription(1, began);
    (ended["status"], ended["ended_at"]) = ("canceled".into(), (began.timestamp() + 60).into());
    let mut detached = card("pm_1", 1, "4242");
    detached["customer"] = Value::Null;
    world.fake.put([ended, detached]);
    world.fake.leave_unlisted("sub_1");
    world.reconcile().await;
    assert_eq!((world.fake.count("/v1/subscriptions/sub_1"), world.fake.count("/v1/payment_methods/pm_1")), (1, 1));
    assert_eq!(world.column("user_subscriptions", "subscription_status").await, "canceled");
    assert_eq!(world.column("user_billing", "payment_method_id").await, Value::Null);
    world.fake.forget_asked();
    world.reconcile().await;
    assert_eq!(world.fake.count("/v1/subscriptions/sub_1"), 0, "an ended one is not missed");
}

#[tokio::test]
async fn a_customer_that_was_deleted_is_found_once() {
    let world = World::with_linked_customer().await;
    world.deliver(&stripe_event("evt_2", "payment_method.attached", now(), card("pm_1", 1, "4242"))).await;
    world.fake.put([card("pm_1", 1, "4242")]);
    world.fake.delete("cus_1");
    world.clock.set(now() + TimeDelta::minutes(1));
    let report = world.reconciler.reconcile_linked(None).await.unwrap();
    assert_eq!(report.drift.iter().map(|drift| drift.field.as_str()).collect::<Vec<_>>(), ["deleted"]);
    assert_eq!(world.column("user_billing", "payment_method_id").await, Value::Null);
    assert_eq!(world.column("user_billing", "stripe_customer_id").await, "cus_1");
    world.fake.forget_asked();
    assert!(world.reconciler.reconcile_linked(None).await.unwrap().drift.is_empty());
    assert_eq!(world.fake.count("/v1/customers/cus_1"), 0);
}

#[tokio::test]
async fn strangers_and_test_clocks_are_left_alone() {
    let world = World::with_linked_customer().await;
    let mut on_clock = customer(2);
    on_clock["test_clock"] = "clock_1".into();
    let mut stranger = customer(3);
    stranger["metadata"] = json!({});
    let mut newcomer = customer(4);
    newcomer["metadata"]["clerk_user_id"] = "user_4".into();
    world.fake.put([on_clock, stranger, newcomer]);
    world.fake.put((1..=4).map(|number| subscription(number, now() - TimeDelta::minutes(50))));
    world.reconciler.reconcile_linked(None).await.unwrap();
    let objects: Value = world
        .database
        .ask("select jsonb_agg(object_id order by object_id) from billsync.provider_objects where provider = 'stripe'")
        .await;
    assert_eq!(objects, json!(["cus_1", "cus_4", "sub_1", "sub_4"]), "the newcomer says whose it is");
    let report = world.reconcile().await;
    assert_eq!(report.on_test_clocks, 2);
    let objects: Value = world
        .database
        .ask("select jsonb_agg(object_id order by object_id) from billsync.provider_objects where provider = 'stripe'")
        .await;
    assert_eq!(objects, json!(["cus_1", "cus_3", "cus_4", "sub_1", "sub_3", "sub_4"]));
}

#[tokio::test]
async fn an_old_retry_after_reconcile_changes_nothing() {
    let world = World::with_linked_customer().await;
    let minutes_ago = |minutes| now() - TimeDelta::minutes(minutes);
    let active = subscription(1, minutes_ago(50));
    let mut past_due = active.clone();
    past_due["status"] = "past_due".into();
    world.deliver(&stripe_event("evt_1", "customer.subscription.created", minutes_ago(50), active.clone())).await;
    // Stripe shows what we hold already; still the read is newer than what got lost between.
    world.fake.put([active]);
    world.reconcile().await;
    let before = world.contents().await;
    let retry = stripe_event("evt_2", "customer.subscription.updated", minutes_ago(40), past_due);
    assert_eq!(world.deliver(&retry).await, "stale");
    assert_eq!(world.column("user_subscriptions", "subscription_status").await, "active");
    let after = world.contents().await;
    for part in ["facts", "subscriptions", "billing"] {
        assert_eq!(before[part], after[part]);
    }
}

#[tokio::test]
async fn what_goes_between_two_pages_hides_nothing() {
    let world = World::new().await;
    world
        .fake
        .put((0..350).map(|number| json!({"id": format!("cus_{number:03}"), "object": "customer", "created": 1_760_000_000})));
    // The last one of two pages goes as soon as the next page is asked for.
    let mut gone = vec!["cus_149", "cus_250"];
    world.fake.on_request(move |asked, objects| {
        let after = asked.query.get("starting_after").map(String::as_str);
        if let Some(place) = gone.iter().position(|id| Some(*id) == after) {
            objects.remove(gone.remove(place));
        }
    });
    let report = world.reconciler.reconcile_all(Mode::Apply, &|_| {}).await.unwrap();
    let kept: i64 = world.database.ask("select count(*) from billsync.provider_objects where object_type = 'customer'").await;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let asked = world.fake.asked().iter().filter(|asked| asked.path == "/v1/customers").count();
    assert_eq!(asked, 4 + 2 * 2, "four pages; twice the next one and the one before once more");
    assert_eq!(kept, 350, "those that went were listed before they did");
}

#[tokio::test]
async fn an_interrupted_pass_goes_on_where_it_ended() {
    let world = World::new().await;
    world
        .database
        .execute(
            "insert into billsync.owners (owner_id, clerk_user_id, linked_by, has_facts) \
             select 'cus_' || n, 'user_' || n, 'customer_metadata', true from generate_series(0, 119) n",
        )
        .await;
    world.fake.put((0..120).map(customer));
    world.fake.fail_always("/v1/customers/cus_90/payment_methods", Fault::Cut);
    world.reconciler.reconcile_linked(None).await.unwrap_err();
    world.fake.recover();
    world.fake.forget_asked();
    world.reconciler.reconcile_linked(None).await.unwrap();
    assert_eq!(world.fake.count("/v1/customers") + world.fake.count("/v1/subscriptions"), 0, "read before");
    let lists = world.fake.asked().iter().filter(|asked| asked.path.ends_with("/payment_methods")).count();
    assert!((1..=70).contains(&lists), "{lists} of 120 customers");
    world.fake.forget_asked();
    world.reconciler.reconcile_linked(None).await.unwrap();
    assert_eq!(world.fake.count("/v1/customers"), 2, "the next pass is a whole one");
}
