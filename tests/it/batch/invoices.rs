//! A customer with very many invoices costs what one with few costs, and gets the same rows.

use billsync::domain::event::Outcome;
use billsync::store::{BEGIN_BATCH, statements};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::{Bench, arcs, bench, clerk_user, customer, outcomes, stripe_event, subscription};

const TRIAL_END: i64 = 1_772_600_000;

fn trialing(number: u32, status: &str) -> Value {
    let mut object = subscription(number, status);
    object["trial_start"] = json!(1_772_000_100);
    object["trial_end"] = json!(TRIAL_END);
    object
}

fn invoice(id: &str, created: i64, line_start: i64, status: &str) -> Value {
    json!({
        "id": id, "object": "invoice", "customer": "cus_1", "status": status, "created": created, "attempt_count": 1,
        "status_transitions": {"paid_at": if status == "paid" { json!(created + 60) } else { Value::Null }, "finalized_at": created},
        "parent": {"subscription_details": {"subscription": "sub_1", "metadata": {"clerk_user_id": "user_1"}}},
        "lines": {"data": [{"period": {"start": line_start, "end": line_start + 2_600_000}, "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {"proration": false, "subscription": "sub_1"}}}]},
    })
}

#[tokio::test]
async fn the_conversion_is_found_among_invoices_that_are_not_read() {
    let bench = bench().await;
    let mut events = vec![
        clerk_user(1),
        stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1)),
        stripe_event("evt_2", "customer.subscription.created", 1_772_000_101, &trialing(1, "trialing")),
        stripe_event("evt_3", "invoice.paid", 1_772_000_102, &invoice("in_0", 1_772_000_100, 1_772_000_100, "paid")),
    ];
    for n in 1..60_i64 {
        let (id, created) = (format!("in_{n}"), TRIAL_END + n * 86_400);
        events.push(stripe_event(&format!("evt_i{n}"), "invoice.paid", created + 60, &invoice(&id, created, created, "paid")));
    }
    for batch in arcs(events).chunks(16) {
        bench.commit(batch).await;
    }
    let converted = TRIAL_END + 86_400 + 60;
    let conversion = "select to_jsonb(extract(epoch from trial_conversion_date)::int8) from user_subscriptions";
    bench.commit(&arcs([stripe_event("evt_4", "customer.subscription.updated", 1_778_000_000, &trialing(1, "active"))])).await;
    assert_eq!(bench.query(conversion).await, converted);
    // The conversion itself is taken back: the next invoice converts.
    let void = invoice("in_1", TRIAL_END + 86_400, TRIAL_END + 86_400, "void");
    bench.commit(&arcs([stripe_event("evt_5", "invoice.voided", 1_778_000_001, &void)])).await;
    assert_eq!(bench.query(conversion).await, converted + 86_400);
}

#[tokio::test]
async fn ten_thousand_invoices_cost_what_ten_cost() {
    let bench = bench().await;
    let events = arcs([
        clerk_user(1),
        stripe_event("evt_1", "customer.created", 1_772_000_100, &customer(1)),
        stripe_event("evt_2", "customer.subscription.created", 1_772_000_101, &trialing(1, "active")),
        stripe_event("evt_3", "invoice.paid", TRIAL_END + 1, &invoice("in_0", TRIAL_END, TRIAL_END, "paid")),
    ]);
    assert!(outcomes(&bench.commit(&events).await).iter().all(|outcome| *outcome == Outcome::Applied));
    let few = blocks_read(&bench).await;
    bench
        .database
        .execute(
            "insert into billsync.provider_objects (provider, account, object_id, object_type, owner_id, as_of, terminal, event_id, \
                winner, fact, object, evidence_created_at, summed_start_at, summed_conversion_at, summed_subscription) \
            select provider, account, 'in_many_' || n, object_type, owner_id, as_of, terminal, event_id, winner, fact, object, \
                evidence_created_at + n * interval '1 hour', summed_start_at + n * interval '1 hour', \
                summed_conversion_at + n * interval '1 hour', summed_subscription \
            from billsync.provider_objects, generate_series(1, 10000) n where object_id = 'in_0'",
        )
        .await;
    let many = blocks_read(&bench).await;
    assert!(few > 0 && many < few + 30, "{few} blocks with one invoice, {many} with ten thousand");
}

/// How many blocks the loads of the customer's facts look at.
async fn blocks_read(bench: &Bench) -> i64 {
    let mut connection = bench.database.connect().await;
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(AssertSqlSafe(BEGIN_BATCH.split_once(';').unwrap().1)).await.unwrap();
    let calls = [
        ("LOAD_FIRST", "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{cus_1}', '{cus_1}', '{}', '{}', '{}', '{}'"),
        (
            "LOAD_SECOND",
            "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{cus_1}', '{sub_1}', '{2026-03-04T04:52:20Z}', '{}', '{}'",
        ),
    ];
    let mut blocks = 0;
    for (name, arguments) in calls {
        let sql = statements().into_iter().find(|(known, _)| *known == name).unwrap().1;
        transaction.execute(AssertSqlSafe(format!("prepare {name} as {sql}"))).await.unwrap();
        let explain = format!("explain (analyze, buffers, format json) execute {name}({arguments})");
        let plan: Value = transaction.fetch_one(AssertSqlSafe(explain)).await.unwrap().get(0);
        let top = &plan[0]["Plan"];
        assert!(top["Actual Rows"].as_f64().unwrap() >= 1.0, "{name} {plan}");
        blocks += top["Shared Hit Blocks"].as_i64().unwrap() + top["Shared Read Blocks"].as_i64().unwrap();
    }
    blocks
}
