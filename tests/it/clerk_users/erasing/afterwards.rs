//! Everything that could bring an erased person back.

use std::sync::Arc;

use billsync::domain::rules::Rules;
use billsync::ensure::Ensured;
use billsync::ingest::committer::{Committer, Options};
use billsync::reconcile::{Apis, Backfill, Mode, Reconciler};
use chrono::TimeDelta;
use serde_json::json;

use super::person::{USER, clerk_user, customer, payment_method, sequel, story, subscription};
use super::{assert_gone, assert_rebuilt, erase, server_with_person};
use crate::clerk_users::api::{api_of, quick};
use crate::clerk_users::ensuring::{ensurer, user_event};
use crate::clerk_users::linking::server_with_plans;
use crate::support::database::TestDatabase;
use crate::support::events::stripe_event;
use crate::support::fake_clerk::{FakeClerk, clerk_user as another_user};
use crate::support::server::now;
use crate::support::service::billsync;
use crate::support::stripe::FakeStripe;

#[tokio::test]
async fn a_retry_is_a_duplicate_and_what_comes_later_leaves_a_line_in_the_ledger() {
    let (server, database) = server_with_person().await;
    erase(&server).await;
    for webhook in story() {
        assert_eq!(server.outcome(&webhook).await, "duplicate", "{}", webhook.id);
    }
    assert_gone(&database, "every retry").await;
    for webhook in sequel() {
        let outcome = server.outcome(&webhook).await;
        // Of a customer that nobody has given to the person yet, nothing is known.
        let expected = if webhook.id == "evt_pm_z2" { "unlinked" } else { "ignored" };
        assert_eq!(outcome, expected, "{}", webhook.id);
        if webhook.id == "evt_pm_z2" {
            continue;
        }
        assert_gone(&database, &webhook.id).await;
        let kept: String = database
            .ask(&format!(
                "select concat_ws(' ', e.reason, p.payload, p.payload_raw, p.effects) from billsync.webhook_events e \
                 left join billsync.webhook_payloads p using (received_at, provider, event_id) where e.event_id = '{}'",
                webhook.id
            ))
            .await;
        assert_eq!(kept, "erased", "{}", webhook.id);
    }
    assert_rebuilt(&database).await;
}

#[tokio::test]
async fn events_that_come_for_the_first_time_after_the_erasure_bring_nobody() {
    // All of the story, and the erasure after the n-th event.
    for n in [1, 2, 5] {
        let (server, database) = server_with_plans().await;
        for (position, webhook) in story().into_iter().enumerate() {
            if position == n {
                erase(&server).await;
            }
            assert_eq!(server.send(&webhook).await.status, 200);
        }
        assert_gone(&database, &format!("an erasure after {n} events")).await;
    }
}

#[tokio::test]
async fn neither_replay_nor_clerks_api_brings_them_back() {
    let (server, database) = server_with_person().await;
    erase(&server).await;
    let folder = tempfile::tempdir().unwrap();
    for webhook in story().into_iter().chain(sequel().into_iter().filter(|webhook| webhook.id != "evt_pm_z2")) {
        // Of Clerk's events a file has no id: each is another event than the one that was received.
        std::fs::write(folder.path().join(format!("{}.json", webhook.id)), &webhook.body).unwrap();
    }
    let mut command = billsync(&[("DATABASE_URL", &database.url)]);
    command.args(["replay"]).arg(folder.path());
    assert!(tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap().success());
    assert_gone(&database, "a replay of files").await;

    let fake = FakeClerk::start().await;
    fake.put(clerk_user());
    let ensurer = ensurer(&database, &fake).await;
    assert_eq!(ensurer.ensure_user(USER).await.unwrap(), Ensured::NotApplied("erased".into()));
    assert_gone(&database, "a read of Clerk's API").await;
    // Nor does the application's own way of making a user.
    let rules = billsync::domain::rules::Rules::default();
    let _ = billsync::ingest::transaction::ensure_user(&server.store, USER, &rules, &server.clock).await;
    assert_gone(&database, "the application's call").await;
}

#[tokio::test]
async fn a_customer_who_comes_back_as_another_user_is_whole_again() {
    let (server, database) = server_with_person().await;
    erase(&server).await;
    let later = now() + chrono::TimeDelta::seconds(60);
    let mut returned = clerk_user();
    (returned["id"], returned["private_metadata"]) = (json!("user_returned"), json!({}));
    assert_eq!(server.outcome(&user_event("msg_r", "user.created", &returned, later)).await, "applied");
    let mut theirs = customer();
    theirs["metadata"] = json!({"clerk_user_id": "user_returned"});
    assert_eq!(server.outcome(&stripe_event("evt_r", "customer.updated", later, theirs)).await, "applied");
    // The billing state had stayed, so there is a plan at once; the card comes with its next event.
    let standing = "select concat_ws(' ', s.current_plan, b.stripe_customer_id, b.billing_address_city, b.card_last_4) \
                    from public.user_billing b join public.user_subscriptions s using (user_id)";
    assert_eq!(database.ask::<String>(standing).await, "glow_up cus_z Gloomhaven");
    assert_eq!(server.outcome(&stripe_event("evt_rp", "payment_method.updated", later, payment_method())).await, "applied");
    assert_eq!(database.ask::<String>(standing).await, "glow_up cus_z Gloomhaven 7391");
    // The subscription still names the erased user: that alone is left out.
    assert_eq!(server.outcome(&stripe_event("evt_rs", "customer.subscription.updated", later, subscription())).await, "applied");
    assert!(super::traces(&database, &[USER]).await.is_empty());
}

#[tokio::test]
async fn comparing_with_the_providers_tells_nothing_of_them() {
    let (server, database) = server_with_person().await;
    erase(&server).await;
    let later = now() + TimeDelta::minutes(5);
    server.clock.set(later);
    let (stripe, clerk) = (FakeStripe::start(server.clock.clone()).await, FakeClerk::start().await);
    stripe.put([customer(), payment_method(), subscription()]);
    // Somebody else, so that there is something to find.
    clerk.put(clerk_user());
    clerk.put(another_user(1, now()));
    let rules = Arc::new(Rules::default());
    let committer = Committer::start(server.store.clone(), rules.clone(), server.clock.clone(), Options::default());
    let apis = Apis { stripe: Some(stripe.api(server.clock.clone())), clerk: Some(api_of(&clerk, quick())) };
    let reconciler = Reconciler::new(apis, server.store.clone(), committer, rules, server.clock.clone());
    let before = everything(&database).await;
    for mode in [Mode::DryRun, Mode::Apply] {
        let report = reconciler.reconcile_all(mode, &|_| {}).await.unwrap();
        assert_eq!((report.drift, report.problems), (Vec::new(), Vec::new()), "{mode:?}");
        let report = reconciler.reconcile_customers(&["cus_z".to_owned()], mode).await.unwrap();
        assert_eq!((report.drift, report.problems), (Vec::new(), Vec::new()), "{mode:?}");
        if mode == Mode::DryRun {
            assert_eq!(everything(&database).await, before);
        }
        let what = Backfill { since: None, stages: Backfill::STAGES.to_vec(), mode };
        let report = reconciler.backfill(&what, &|_| {}).await.unwrap();
        let expected: &[&str] = if mode == Mode::DryRun { &["user_1"] } else { &[] };
        assert_eq!(report.drifted_objects().into_iter().collect::<Vec<_>>(), expected, "{mode:?}");
        clerk.remove("user_1");
        assert_gone(&database, "a comparison with the providers").await;
    }
    assert_rebuilt(&database).await;
}

async fn everything(database: &TestDatabase) -> String {
    let sql = "select concat((select jsonb_agg(to_jsonb(o) order by o.object_id) from billsync.provider_objects o), \
               (select jsonb_agg(to_jsonb(e) order by e.event_id) from billsync.webhook_events e))";
    database.ask(sql).await
}
