//! A dump beside deliveries: it is a whole, and what came after it is mended by sending it again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use billsync::clock::Clock;

use super::{Owned, catalog, has_clients, restore};
use crate::cli::{fixture, on};
use crate::http::client::exchange;
use crate::support::events::{Webhook, customer_created, subscription_updated, user_created};
use crate::support::service::Service;
use crate::support::until;

/// Delivered before the dump begins.
const BEFORE: usize = 30;

/// What the application reads, but for what is told of the way rather than of its end: keys, and when rows were written.
const STATE: &str = "select string_agg(concat_ws(' ', u.user_id, u.email, s.current_plan, s.subscription_status, b.stripe_customer_id, \
    b.stripe_subscription_id, g.plan_creators_limit, d.last_webhook_event), ', ' order by u.user_id) from users u \
    left join user_subscriptions s on s.user_id = u.id left join user_billing b on b.user_id = u.id \
    left join user_usage g on g.user_id = u.id left join user_system_data d on d.user_id = u.id";

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_beside_deliveries_is_whole_and_what_it_lacks_can_be_sent_again() {
    let (from, to) = (Owned::new().await, Owned::new().await);
    if !has_clients(&from.database).await {
        return;
    }
    on(&from.url(), &["migrate", "run"], 0);
    on(&from.url(), &["plans", "apply", &fixture("plans.toml")], 0);
    let mut service = Service::start(&[("DATABASE_URL", &from.url())]).await;
    let at = Clock::System.now();
    // The customer's events first, so that much is unlinked for a while.
    let story = |number| [customer_created(number, at), subscription_updated(number, 1, at), user_created(number, at)];
    let (is_over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = service.address;
    let deliver = async {
        let mut told = Vec::new();
        while !is_over.load(Ordering::SeqCst) {
            for webhook in story(u32::try_from(told.len()).unwrap() + 1) {
                assert_eq!(exchange(address, webhook.request(Clock::System.now())).await.status, 200);
                told.push(webhook);
                sent.store(told.len(), Ordering::SeqCst);
            }
        }
        told
    };
    let back_up = async {
        until("some were delivered", async || sent.load(Ordering::SeqCst) >= BEFORE).await;
        restore(&from, &to).await;
        let at_the_end = sent.load(Ordering::SeqCst) + 1;
        until("one more was delivered", async || sent.load(Ordering::SeqCst) > at_the_end).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (told, ()): (Vec<Webhook>, ()) = tokio::join!(deliver, back_up);
    service.terminate();
    assert!(service.ended().await, "{}", service.log());

    on(&to.url(), &["rebuild", "--dry-run"], 0);
    let known: i64 = to.database.ask("select count(*) from billsync.webhook_events").await;
    assert!(known >= i64::try_from(BEFORE).unwrap() && known < i64::try_from(told.len()).unwrap(), "{known} of {}", told.len());
    let mut service = Service::start(&[("DATABASE_URL", &to.url())]).await;
    let mut duplicates = 0;
    for webhook in &told {
        let answer = exchange(service.address, webhook.request(Clock::System.now())).await;
        duplicates += i64::from(answer.json()["outcome"] == "duplicate");
    }
    service.terminate();
    assert!(service.ended().await, "{}", service.log());
    assert_eq!(duplicates, known, "what the dump holds is known, and nothing else");
    let (restored, whole) = (to.database.ask::<String>(STATE).await, from.database.ask::<String>(STATE).await);
    assert_eq!(restored, whole);
    let events = |counts: std::collections::BTreeMap<String, i64>| counts["billsync.webhook_events"];
    assert_eq!(events(catalog::counts(&to.database).await), events(catalog::counts(&from.database).await));
    from.end().await;
    to.end().await;
}
