//! Whose a customer is by an operator's word: rows move both ways, in any order with events, and the ledger says why.

use billsync::domain::billing::stored::LinkedBy;
use billsync::domain::rules::Rules;
use billsync::ingest::transaction::{OperatorChange, OperatorLinked, OperatorWord, link_by_operator};
use serde_json::Value;

use crate::stories::journey::catalog;
use crate::support::database::TestDatabase;
use crate::support::events::{Webhook, customer_created, subscription_updated, user_created};
use crate::support::server::{TestServer, now, server};
use crate::support::service::billsync;

pub async fn say(server: &TestServer, word: OperatorWord) -> OperatorLinked {
    let change = OperatorChange { customer_id: "cus_1".into(), word, reason: Some("ticket 7".into()) };
    link_by_operator(&server.store, &change, &Rules::default(), &server.clock).await.unwrap()
}

fn belongs_to(number: u32) -> OperatorWord {
    OperatorWord::BelongsTo(format!("user_{number}"))
}

/// `user plan customer` of everybody, by id.
async fn standing(database: &TestDatabase) -> String {
    let sql = "select coalesce(string_agg(concat_ws(' ', u.user_id, s.current_plan, b.stripe_customer_id, s.billing_sync_status), \
               ', ' order by u.user_id), '') from public.users u join public.user_subscriptions s on s.user_id = u.id \
               join public.user_billing b on b.user_id = u.id";
    database.ask(sql).await
}

/// A server with the stories' catalog.
pub async fn server_with_plans() -> (TestServer, TestDatabase) {
    let (server, database) = server().await;
    server.store.apply_plans(catalog(None).plans()).await.unwrap();
    (server, database)
}

#[tokio::test]
async fn a_customer_moves_with_the_word_and_back_without_it() {
    let (server, database) = server_with_plans().await;
    for webhook in [user_created(1, now()), user_created(2, now()), customer_created(1, now()), subscription_updated(1, 1, now())]
    {
        assert_eq!(server.outcome(&webhook).await, "applied");
    }
    let of_one = "user_1 glow_up cus_1 synced, user_2 free not_linked";
    let of_two = "user_1 free not_linked, user_2 glow_up cus_1 synced";
    assert_eq!(standing(&database).await, of_one);

    let linked = say(&server, belongs_to(2)).await;
    assert_eq!((linked.before.as_deref(), linked.after.as_deref()), (Some("user_1"), Some("user_2")));
    assert_eq!((linked.linked_by, linked.users_changed, linked.changed), (Some(LinkedBy::Operator), 2, true));
    assert_eq!(standing(&database).await, of_two);
    // Events of the customer follow the word.
    assert_eq!(server.outcome(&subscription_updated(1, 2, now())).await, "applied");
    assert_eq!(standing(&database).await, of_two);
    let again = say(&server, belongs_to(2)).await;
    assert!(!again.changed && again.users_changed == 0, "{again:?}");

    let nobody = say(&server, OperatorWord::Nobody).await;
    assert_eq!((nobody.after, nobody.linked_by), (None, Some(LinkedBy::Operator)));
    assert_eq!(standing(&database).await, "user_1 free not_linked, user_2 free not_linked");
    assert_eq!(server.outcome(&subscription_updated(1, 3, now())).await, "unlinked");

    let back = say(&server, OperatorWord::Nothing).await;
    assert_eq!((back.after.as_deref(), back.linked_by), (Some("user_1"), Some(LinkedBy::CustomerMetadata)));
    assert_eq!(standing(&database).await, of_one);
    assert_eq!(database.ask::<i64>("select count(*) from billsync.operator_links").await, 0);

    // Who lost and who gained it are told why.
    let entries = "select string_agg(concat_ws(' ', e.event_type, e.owner_id, e.source, e.reason, (select count(*) from \
                   jsonb_array_elements(p.effects) x where x ->> 'user_id' = e.owner_id) > 0), '; ' order by e.received_at, e.owner_id) \
                   from billsync.webhook_events e join billsync.webhook_payloads p using (received_at, provider, event_id) \
                   where e.event_type like 'operator.%'";
    server.clock.set(now());
    let entries: String = database.ask(entries).await;
    let told: Vec<&str> = entries.split("; ").collect();
    assert!(told.contains(&"operator.link user_1 job cus_1 belongs to user_2: ticket 7 t"), "{told:#?}");
    assert!(told.contains(&"operator.link user_2 job cus_1 belongs to user_2: ticket 7 t"), "{told:#?}");
    assert!(told.contains(&"operator.link user_2 job cus_1 is nobody's: ticket 7 t"), "{told:#?}");
    assert!(told.contains(&"operator.unlink user_1 job nothing is said of cus_1: ticket 7 t"), "{told:#?}");
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[tokio::test]
async fn the_word_and_the_events_end_in_the_same_rows_in_any_order() {
    let events: [Option<Webhook>; 5] = [
        None,
        Some(user_created(1, now())),
        Some(user_created(2, now())),
        Some(customer_created(1, now())),
        Some(subscription_updated(1, 1, now())),
    ];
    for rotation in 0..events.len() {
        let (server, database) = server_with_plans().await;
        let (head, tail) = events.split_at(rotation);
        for event in tail.iter().chain(head) {
            match event {
                Some(webhook) => assert_eq!(server.send(webhook).await.status, 200),
                None => assert!(say(&server, belongs_to(2)).await.changed),
            }
        }
        assert_eq!(standing(&database).await, "user_1 free not_linked, user_2 glow_up cus_1 synced", "rotated by {rotation}");
    }
}

#[tokio::test]
async fn the_word_races_with_events_and_loses_nothing() {
    let (server, database) = server_with_plans().await;
    server.link_users(1, 2).await;
    assert_eq!(server.outcome(&user_created(2, now())).await, "applied");
    let events = async {
        for step in 0..20 {
            assert_eq!(server.send(&subscription_updated(1, step, now())).await.status, 200);
        }
    };
    let words = async {
        for number in [2, 1, 2, 1, 2] {
            say(&server, belongs_to(number)).await;
        }
    };
    futures_util::future::join(events, words).await;
    assert_eq!(standing(&database).await, "user_1 free not_linked, user_2 glow_up cus_1 synced");
}

#[tokio::test]
async fn the_commands_say_what_they_did() {
    let (server, database) = server_with_plans().await;
    server.link_users(1, 2).await;
    let run = async |arguments: &[&str]| {
        let mut command = billsync(&[("DATABASE_URL", &database.url)]);
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, complaints) = run(&["users", "link", "--customer", "cus_1", "--user", "user_2", "--reason", "moved"]).await;
    assert_eq!(code, 0, "{complaints}");
    assert_eq!(said, "cus_1 belongs to user_2 by operator; it was user_1's; rows of 1 users changed\n");
    assert!(complaints.contains("users ensure user_2"), "{complaints}");
    let (_, report, _) = run(&["inspect", "user", "user_1"]).await;
    assert!(report.contains("operator.link") && report.contains("cus_1 belongs to user_2: moved"), "{report}");

    let (_, said, _) = run(&["users", "link", "--customer", "cus_1", "--nobody", "--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["after"], &said["linked_by"]), (&Value::Null, &Value::from("operator")));
    let (_, said, _) = run(&["users", "unlink", "--customer", "cus_1"]).await;
    assert_eq!(said, "cus_1 belongs to user_1 by customer_metadata; rows of 1 users changed\n");
    let (_, said, _) = run(&["users", "unlink", "--customer", "cus_1"]).await;
    assert_eq!(said, "cus_1 belongs to user_1 by customer_metadata, as before\n");
    for wrong in [&["users", "link", "--customer", "cus_1"][..], &["users", "link", "--customer", "user_1", "--nobody"]] {
        assert_eq!(run(wrong).await.0, 2, "{wrong:?}");
    }
}
