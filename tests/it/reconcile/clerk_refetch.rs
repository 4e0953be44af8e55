//! What Clerk's events leave open is settled by asking Clerk.

use billsync::schedule::tasks;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::World;
use crate::clerk_users::ensuring::user_event;
use crate::support::events::Webhook;
use crate::support::fake_clerk::{FakeClerk, Mishap, clerk_user};
use crate::support::server::now;

/// User 1, of whom two events of one instant tell different things.
async fn with_contradiction() -> (World, FakeClerk) {
    let (world, fake) = (World::new().await, FakeClerk::start().await);
    for (id, name) in [("msg_a", "One"), ("msg_b", "Other")] {
        world.deliver(&user_event(id, "user.updated", &named(name, now()), now())).await;
    }
    assert_eq!(queue(&world).await, json!([["user_1", "ambiguous", 0]]));
    (world, fake)
}

fn named(name: &str, updated_at: DateTime<Utc>) -> Value {
    let mut user = clerk_user(1, updated_at);
    user["last_name"] = name.into();
    user
}

async fn queue(world: &World) -> Value {
    world
        .database
        .ask("select coalesce(jsonb_agg(jsonb_build_array(object_id, reason, attempts)), '[]') from billsync.refetch_queue")
        .await
}

#[tokio::test]
async fn a_user_is_as_clerk_says() {
    let (world, fake) = with_contradiction().await;
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "needs_reconcile");
    // Whatever the order of the ids would have decided, Clerk decides.
    fake.put(named("One", now()));
    world.clock.set(now() + TimeDelta::seconds(4));
    let reader = world.reader_of(&fake);
    assert_eq!(tasks(0, Some(&reader)).iter().filter(|task| task.name == "refetch").count(), 1);
    let drained = reader.drain_refetches().await.unwrap();
    assert_eq!((drained.settled, drained.postponed), (1, 0));
    assert_eq!(world.column("users", "full_name").await, "Ada One");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "not_linked");
    assert_eq!(queue(&world).await, json!([]));
    // The events, should they come once more, change nothing.
    world.deliver(&user_event("msg_c", "user.updated", &named("Other", now()), now())).await;
    assert_eq!(world.column("users", "full_name").await, "Ada One");
    world.deliver(&user_event("msg_d", "user.updated", &named("Third", now() + TimeDelta::seconds(9)), now())).await;
    assert_eq!(world.column("users", "full_name").await, "Ada Third");
}

#[tokio::test]
async fn a_copy_that_lags_behind_decides_nothing() {
    let (world, fake) = with_contradiction().await;
    fake.put(named("Former", now() - TimeDelta::seconds(1)));
    world.clock.set(now() + TimeDelta::seconds(4));
    let reader = world.reader_of(&fake);
    let drained = reader.drain_refetches().await.unwrap();
    assert_eq!((drained.settled, drained.postponed), (0, 1));
    assert_ne!(world.column("users", "full_name").await, "Ada Former");
    // Neither does an error, nor that Clerk does not know: asked again later.
    fake.go_wrong([Mishap::Status(403, "")]);
    world.clock.set(now() + TimeDelta::minutes(1));
    reader.drain_refetches().await.unwrap_err();
    fake.remove("user_1");
    world.clock.set(now() + TimeDelta::minutes(2));
    assert_eq!(reader.drain_refetches().await.unwrap().postponed, 1);
    assert_eq!(queue(&world).await, json!([["user_1", "ambiguous", 3]]));
    fake.put(named("Other", now()));
    world.clock.set(now() + TimeDelta::minutes(3));
    assert_eq!(reader.drain_refetches().await.unwrap().settled, 1);
    assert_eq!(world.column("users", "full_name").await, "Ada Other");
}

#[tokio::test]
async fn whoever_has_no_key_for_clerk_leaves_it_open() {
    let (world, fake) = with_contradiction().await;
    world.clock.set(now() + TimeDelta::seconds(4));
    let drained = world.reconciler.drain_refetches().await.unwrap();
    assert_eq!((drained.postponed, world.fake.asked().len(), fake.requests().len()), (1, 0, 0));
    // An event that is newer closes the question, and the entry goes unasked.
    world.deliver(&user_event("msg_n", "user.updated", &named("New", now() + TimeDelta::seconds(2)), now())).await;
    world.clock.set(now() + TimeDelta::hours(2));
    assert_eq!(world.reconciler.drain_refetches().await.unwrap().dropped, 1);
}

/// An item of Clerk Billing, as a webhook has it.
fn item(plan: &str, status: &str) -> Value {
    let start = (now() - TimeDelta::days(3)).timestamp_millis();
    json!({"id": "csub_item_1", "object": "commerce_subscription_item", "status": status, "created_at": start,
        "period_start": start, "period_end": start + 30 * 86_400_000, "interval": "month", "is_free_trial": false,
        "plan": {"id": format!("cplan_{plan}"), "slug": plan, "amount": 9900, "is_default": false, "is_recurring": true}})
}

fn item_event(id: &str, plan: &str) -> Webhook {
    let mut data = item(plan, "active");
    data["payer"] = json!({"id": "cpayer_1", "user_id": "user_1"});
    user_event(id, "subscriptionItem.updated", &data, now())
}

#[tokio::test]
async fn a_subscription_item_is_as_clerk_says() {
    let (world, fake) = (World::new().await, FakeClerk::start().await);
    world.deliver(&user_event("msg_u", "user.created", &clerk_user(1, now()), now())).await;
    for (id, plan) in [("msg_i", "creator_glow_up"), ("msg_j", "creator_viral_surge")] {
        world.deliver(&item_event(id, plan)).await;
    }
    assert_eq!(queue(&world).await, json!([["csub_item_1", "ambiguous", 0]]));
    assert_eq!(world.column("user_subscriptions", "current_plan").await, "viral_surge", "the greater event id, for a start");
    fake.put_billing(
        "user_1",
        json!({"id": "csub_1", "object": "commerce_subscription", "status": "active", "payer_id": "cpayer_1",
            "created_at": 1_772_000_000_000_i64, "updated_at": 1_772_000_000_000_i64, "active_at": null, "past_due_at": null,
            "subscription_items": [item("creator_glow_up", "active")]}),
    );
    world.clock.set(now() + TimeDelta::seconds(4));
    assert_eq!(world.reader_of(&fake).drain_refetches().await.unwrap().settled, 1);
    assert_eq!(fake.requests(), ["/v1/users/user_1/billing/subscription"]);
    assert_eq!(world.column("user_subscriptions", "current_plan").await, "glow_up");
    assert_eq!(world.column("user_subscriptions", "billing_sync_status").await, "synced");
    assert_eq!(queue(&world).await, json!([]));
}
