//! A customer and the users who have verified its address, in transactions that meet.

use billsync::domain::clerk;
use billsync::domain::event::{Event, Source};
use billsync::domain::rules::Rules;
use serde_json::json;
use sqlx::Connection;

use super::{Bench, arcs, bench, clerk_user, commit_patiently, customer, stripe_event, verified};
use crate::support::wait::until;

fn by_address() -> Rules {
    Rules { link_by_verified_email: true, ..Rules::default() }
}

/// Another user with the address of user 1.
fn namesake() -> Event {
    let mut body: serde_json::Value = serde_json::from_str(&clerk_user(1).payload.text).unwrap();
    body["data"]["id"] = json!("user_2");
    clerk::decode_event(&verified(&body), "msg_user_2", Source::Webhook, &by_address()).unwrap()
}

fn deletion_of_namesake() -> Event {
    let body = json!({
        "data": {"id": "user_2", "object": "user", "deleted": true},
        "object": "event", "type": "user.deleted", "timestamp": 1_772_000_900_000_i64, "instance_id": "ins_1",
    });
    clerk::decode_event(&verified(&body), "msg_deleted_2", Source::Webhook, &by_address()).unwrap()
}

async fn waits_for(bench: &Bench, lock: &str, count: i64) {
    until(&format!("{count} wait for {lock} locks"), async || {
        let waiting = format!(
            "select count(*) from pg_locks l join pg_stat_activity a on a.pid = l.pid \
            where l.locktype = any('{{{lock}}}') and not l.granted and a.datname = current_database()"
        );
        bench.database.ask::<i64>(&waiting).await >= count
    })
    .await;
}

#[tokio::test]
async fn a_customer_that_two_could_claim_finds_that_one_of_them_is_being_deleted() {
    let mut bench = bench().await;
    bench.rules = by_address();
    bench.commit(&arcs([clerk_user(1), namesake()])).await;

    // The customer's transaction has seen both users, and is held up by the application.
    let mut application = bench.database.connect().await;
    let mut held = application.begin().await.unwrap();
    sqlx::query("select from public.users where user_id = 'user_1' for update").execute(&mut *held).await.unwrap();
    let mut nobodys = customer(1);
    nobodys["metadata"] = json!({});
    let created = arcs([stripe_event("evt_c1", "customer.created", 1_772_000_100, &nobodys)]);
    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let creating = tokio::spawn(async move { commit_patiently(&store, &created, &by_address(), &clock).await });
    waits_for(&bench, "tuple,transactionid", 1).await;

    let (store, clock) = (bench.store.clone(), bench.clock.clone());
    let deleting =
        tokio::spawn(async move { commit_patiently(&store, &arcs([deletion_of_namesake()]), &by_address(), &clock).await });
    waits_for(&bench, "advisory", 1).await;
    held.rollback().await.unwrap();
    creating.await.unwrap();
    deleting.await.unwrap();
    let owner = "select clerk_user_id || ' ' || linked_by from billsync.owners where owner_id = 'cus_1'";
    assert_eq!(bench.database.ask::<Option<String>>(owner).await.as_deref(), Some("user_1 verified_email"));
}
