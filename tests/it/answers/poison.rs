//! Events that Postgres refuses: kept as `failed`, alone, and tried again when they are sent again.

use futures_util::future::join_all;

use crate::support::events::{Webhook, customer_created, stripe_event, user_created};
use crate::support::server::{now, server};

/// Makes Postgres refuse one customer with an error of class 22.
const REFUSE_CUSTOMER_7: &str = "\
    create function refuse() returns trigger language plpgsql as $$ begin \
        if new.object_id = 'cus_7' then raise exception using errcode = '22023', message = 'refused'; end if; \
        return new; end $$; \
    create trigger refuse before insert or update on billsync.provider_objects for each row execute function refuse()";

#[tokio::test]
async fn a_poison_event_fails_alone_in_a_full_batch_and_is_tried_again_when_sent_again() {
    let (server, database) = server().await;
    for number in 0..64 {
        assert_eq!(server.outcome(&user_created(number, now())).await, "applied");
    }
    database.execute(REFUSE_CUSTOMER_7).await;
    let customers: Vec<Webhook> = (0..64).map(|number| customer_created(number, now())).collect();
    let outcomes = join_all(customers.iter().map(|customer| server.outcome(customer))).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome, if number == 7 { "failed" } else { "applied" }, "customer {number}");
    }
    let failed: Vec<(String, String)> = {
        let sql = "select event_id, reason from billsync.webhook_events where outcome = 'failed'";
        sqlx::query_as(sql).fetch_all(&mut database.connect().await).await.unwrap()
    };
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, "evt_cus_7");
    let linked = "select count(*) from user_billing where stripe_customer_id is not null";
    assert_eq!(database.ask::<i64>(linked).await, 63);
    assert!(server.is_ready().await, "one refused event is no fault of the database");

    assert_eq!(server.outcome(&customers[7]).await, "failed", "the cause is still there");
    database.execute("drop trigger refuse on billsync.provider_objects").await;
    assert_eq!(server.outcome(&customers[7]).await, "applied");
    assert_eq!(server.outcome(&customers[7]).await, "duplicate");
    assert_eq!(database.ask::<i64>(linked).await, 64);
}

/// A customer event with this text somewhere in its object.
fn customer_with(id: &str, json: &str) -> Webhook {
    let event =
        stripe_event(id, "customer.updated", now(), serde_json::json!({"id": "cus_1", "object": "customer", "x": "HERE"}));
    Webhook::stripe(id, String::from_utf8(event.body).unwrap().replace("\"HERE\"", json))
}

#[tokio::test]
async fn what_jsonb_refuses_is_kept_all_the_same() {
    let (server, database) = server().await;
    server.link_users(1, 2).await;
    for (id, json) in [
        ("evt_lone_surrogate", r#""\ud800""#),
        ("evt_half_pair", r#""a\udc00b""#),
        ("evt_huge_number", "1e400000"),
        ("evt_tiny_number", "-1e-400000"),
        ("evt_nul", r#""a\u0000b""#),
        ("evt_many_digits", &"9".repeat(10_000)),
    ] {
        let outcome = server.outcome(&customer_with(id, json)).await;
        assert_ne!(outcome, "failed", "{id}");
        assert_eq!(database.ledger(id).await.as_deref(), Some(&*outcome), "{id}");
        let kept = format!("select count(*) from billsync.webhook_payloads where event_id = '{id}'");
        assert_eq!(database.ask::<i64>(&kept).await, 1, "{id}");
    }
}

#[tokio::test]
async fn nesting_beyond_what_we_read_fails_and_is_kept() {
    let (server, database) = server().await;
    for (id, depth) in [("evt_129", 129), ("evt_100000", 100_000)] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(server.outcome(&customer_with(id, &nested)).await, "failed", "{depth}");
        assert_eq!(database.ledger(id).await.as_deref(), Some("failed"), "{depth}");
    }
    let shallow = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(server.outcome(&customer_with("evt_100", &shallow)).await, "unlinked");
    assert!(server.is_ready().await);
}
