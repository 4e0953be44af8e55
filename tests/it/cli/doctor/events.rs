//! Deliveries, plans, tasks and backlogs, each brought about by events or by the rows that they leave.

use serde_json::{Value, json};

use super::{doctor, examined, with_plans};
use crate::cli::{fixture, on};
use crate::support::database::{TestDatabase, database};
use crate::support::events::{Webhook, customer_created, stripe_event, subscription, user_created};
use crate::support::server::{now, server_on};

async fn deliver(database: &TestDatabase, webhooks: &[Webhook]) {
    let server = server_on(&database.url, Default::default()).await;
    for webhook in webhooks {
        server.outcome(webhook).await;
    }
    server.stop().await;
}

/// An active subscription of an own customer, of items with these prices.
fn paying(number: u32, prices: &[Value]) -> Webhook {
    let mut object = subscription(number, now());
    let template = object["items"]["data"][0].clone();
    let items: Vec<Value> = prices
        .iter()
        .map(|price| {
            let mut item = template.clone();
            item["price"] = price.clone();
            item
        })
        .collect();
    object["items"]["data"] = json!(items);
    stripe_event(&format!("evt_{number}"), "customer.subscription.updated", now(), object)
}

#[tokio::test]
async fn prices_without_plan_and_plans_without_price_are_told() {
    let database = database().await;
    examined(&database).expect("error", "the plan catalog is empty", "billsync plans apply");
    on(&database.url, &["plans", "apply", &fixture("plans.toml")], 0);
    let (strange, add_on) = (json!({"id": "price_strange", "product": "prod_strange"}), json!({"id": "price_add_on"}));
    let mut ended = subscription(5, now());
    ended["items"]["data"][0]["price"] = json!({"id": "price_of_the_past"});
    ended["status"] = json!("canceled");
    deliver(
        &database,
        &[
            user_created(1, now()),
            customer_created(1, now()),
            paying(1, std::slice::from_ref(&strange)),
            paying(2, &[strange]),
            // One item that has a plan is enough; and there are four ways to have one.
            paying(3, &[add_on, json!({"id": "p", "product": "prod_glow_up"})]),
            paying(4, &[json!({"id": "p", "lookup_key": "viral_surge"}), json!({"id": "q"})]),
            stripe_event("evt_5", "customer.subscription.deleted", now(), ended),
            paying(6, &[json!({"id": "p", "metadata": {"plan_key": "fame_flex"}})]),
        ],
    )
    .await;
    let diagnosis = examined(&database);
    diagnosis.expect(
        "error",
        "2 live subscriptions pay price price_strange of prod_strange, which no plan has",
        "stripe_price_id_monthly = \"price_strange\"",
    );
    assert_eq!(diagnosis.trouble("plans").len(), 1, "{diagnosis:#?}");

    database
        .execute(
            "update subscription_plans set stripe_product_id = 'prod_strange' where plan_key = 'fame_flex'; \
            update subscription_plans set stripe_product_id = null, stripe_price_id_monthly = null, stripe_price_id_yearly = null, \
                clerk_plan_slug = null where plan_key = 'viral_surge'",
        )
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect("warning", "the plan viral_surge has no price", "give viral_surge stripe_price_id_monthly");
    assert_eq!(diagnosis.trouble("plans").len(), 1, "{diagnosis:#?}");
    let renamed = [("DATABASE_URL", database.url.as_str()), ("BILLSYNC_UNMAPPED_PLAN", "basic")];
    doctor(&renamed, &["--offline"]).expect(
        "error",
        "no plan basic, and BILLSYNC_UNMAPPED_PLAN names it",
        "plan_key = \"basic\"",
    );
    database.execute("update subscription_plans set is_active = false where plan_key = 'viral_surge'").await;
    assert_eq!(examined(&database).trouble("plans"), [""; 0]);
}

#[tokio::test]
async fn deliveries_are_told_by_provider() {
    let database = with_plans().await;
    let diagnosis = examined(&database);
    diagnosis.expect("warning", "has verified no webhook of Stripe yet", "billsync send --story");
    diagnosis.expect("warning", "has verified no webhook of Clerk yet", "billsync send --story");
    deliver(&database, &[user_created(1, now()), customer_created(1, now())]).await;
    database
        .execute(
            "update billsync.webhook_events set received_at = now() - interval '3 hours 5 minutes' where provider = 'stripe'; \
            update billsync.webhook_events set received_at = now() - interval '8 days' where provider = 'clerk'; \
            insert into billsync.webhook_events (provider, event_id, event_type, occurred_at, received_at, source, outcome) \
                values ('clerk', 'msg_replayed', 'user.updated', now(), now(), 'replay', 'applied')",
        )
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect("ok", "verified the newest webhook of Stripe 3 hours ago", "");
    diagnosis.expect("warning", "verified the newest webhook of Clerk 8 days ago", "with CLERK_WEBHOOK_SECRETS");
    let rolling = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,whsec_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
    ];
    let diagnosis = doctor(&rolling, &["--offline"]);
    diagnosis.expect("ok", "STRIPE_WEBHOOK_SECRETS: 2 secrets", "");
    diagnosis.expect("ok", "a secret of STRIPE_WEBHOOK_SECRETS (which one is logged", "");
    assert!(!diagnosis.printed.contains("aaaa"));
}

#[tokio::test]
async fn tasks_that_are_late_or_failed_are_told() {
    let database = with_plans().await;
    examined(&database).expect("warning", "no task has ever run (clock-sweep, usage-reset, retention)", "billsync serve");
    database
        .execute(
            "insert into billsync.schedule_runs (name, started_at, finished_at, succeeded, error, summary) values \
            ('clock-sweep', now() - interval '1 minute', now(), false, 'a defect', null), \
            ('usage-reset', now() - interval '1 day', now(), true, null, '{\"rows\": 0}')",
        )
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect("error", "the task clock-sweep failed at", "billsync schedule run clock-sweep");
    diagnosis.expect("warning", "the task usage-reset is late", "billsync schedule run usage-reset");
    diagnosis.expect("warning", "the task retention has never run", "billsync schedule run retention");
    for task in ["clock-sweep", "usage-reset", "retention"] {
        on(&database.url, &["schedule", "run", task], 0);
    }
    assert_eq!(examined(&database).trouble("schedule"), [""; 0]);
    // Ended by a restart: the next process goes on with it.
    database
        .execute(
            "insert into billsync.schedule_runs (name, started_at, finished_at, succeeded, error, summary) values \
            ('clock-sweep', now(), now(), false, 'asked to stop before the end', '{\"stopped\": true}')",
        )
        .await;
    assert_eq!(examined(&database).trouble("schedule"), [""; 0]);
}

#[tokio::test]
async fn what_waits_is_told() {
    let database = with_plans().await;
    let bad = json!({"id": "sub_2", "object": "subscription"});
    deliver(&database, &[stripe_event("evt_bad", "customer.subscription.updated", now(), bad)]).await;
    database
        .execute(
            "insert into billsync.refetch_queue (object_id, after, reason) values \
            ('sub_8', now() - interval '1 day', 'ambiguous'), ('sub_9', now(), 'ambiguous')",
        )
        .await;
    let diagnosis = examined(&database);
    diagnosis.expect("error", "1 event has failed, the newest is evt_bad", "billsync inspect event evt_bad");
    diagnosis.expect(
        "warning",
        "2 objects wait to be read from their provider, 1 of them for more than an hour",
        "billsync schedule run refetch",
    );
    database.execute("delete from billsync.refetch_queue where object_id = 'sub_8'").await;
    examined(&database).expect("ok", "1 object waits to be read from its provider", "");

    let with_key = || {
        let key = [("DATABASE_URL", database.url.as_str()), ("STRIPE_API_KEY", "rk_test_hunter2")];
        doctor(&key, &["--offline"])
    };
    with_key().expect("warning", "Stripe's list of events was never read to its end", "billsync schedule run catch-up");
    for (age, level, told) in
        [("3 hours", "warning", "3 hours ago"), ("21 days", "error", "after 30 days Stripe forgets"), ("1 minute", "ok", "known")]
    {
        database
            .execute(&format!(
                "insert into billsync.sync_cursors (name, position) values ('stripe_events', \
                    jsonb_build_object('known_until', now() - interval '{age}', 'window', null)) \
                on conflict (name) do update set position = excluded.position"
            ))
            .await;
        let fix = if level == "ok" { "" } else { "billsync schedule run catch-up" };
        with_key().expect(level, told, fix);
    }
}
