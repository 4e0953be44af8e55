//! Many senders at once: a locked account, full queues, senders that leave.

use std::time::{Duration, Instant};

use billsync::ingest::committer;
use futures_util::future::join_all;
use sqlx::Connection;

use crate::http::client::{Connection as HttpConnection, exchange};
use crate::support::database::database;
use crate::support::events::{customer_created, subscription_updated, user_created};
use crate::support::server::{TestServer, now, server, server_on};
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_locked_for_3_s_does_not_hold_up_the_others() {
    let (server, database) = server().await;
    server.link_users(0, 201).await;
    let mut outsider = database.connect().await;
    let mut transaction = outsider.begin().await.unwrap();
    let lock_rows =
        "select 1 from user_billing b join users u on u.id = b.user_id where u.user_id = 'user_200' for update of b, u";
    sqlx::query(lock_rows).execute(&mut *transaction).await.unwrap();

    let begun = Instant::now();
    let locked = async {
        let answer = server.send(&subscription_updated(200, 1, now())).await;
        (answer, begun.elapsed())
    };
    let unlock = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        transaction.rollback().await.unwrap();
    };
    let ((answer, waited), (), p99) = tokio::join!(locked, unlock, deliver_to_others(&server, 1));
    // With nobody in the way, what they take tells how busy the machine is.
    let undisturbed = deliver_to_others(&server, 2).await;
    let bound = Duration::from_millis(500).max(undisturbed * 3);
    assert!(p99 < bound, "p99 of the others: {p99:?}, undisturbed: {undisturbed:?}");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(waited >= Duration::from_secs(3), "it was locked: {waited:?}");
    assert_eq!(database.ledger("evt_sub_200_1").await.as_deref(), Some("applied"));
}

/// Delivers one event to each of 200 accounts, spread over two seconds as real senders are. Returns the p99.
async fn deliver_to_others(server: &TestServer, step: u32) -> Duration {
    let sent = (0..200).map(|number| async move {
        let webhook = subscription_updated(number, step, now());
        tokio::time::sleep(Duration::from_millis(100 + u64::from(number) * 10)).await;
        let sent = Instant::now();
        assert_eq!(server.outcome(&webhook).await, "applied", "{number}");
        sent.elapsed()
    });
    let mut took = join_all(sent).await;
    took.sort();
    took[took.len() * 99 / 100]
}

#[tokio::test]
async fn an_account_that_stays_locked_is_refused_and_the_retry_applied() {
    let database = database().await;
    let options = committer::Options { lock_patience: Duration::from_secs(1), ..committer::Options::default() };
    let server = server_on(&database.url, options).await;
    server.link_users(1, 2).await;
    let mut outsider = database.connect().await;
    let mut transaction = outsider.begin().await.unwrap();
    sqlx::query("select 1 from user_billing for update").execute(&mut *transaction).await.unwrap();
    let subscription = subscription_updated(1, 1, now());
    let answer = server.send(&subscription).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(database.ledger(&subscription.id).await, None);
    assert!(server.is_ready().await, "one locked account is no fault of the database");
    transaction.rollback().await.unwrap();
    assert_eq!(server.outcome(&subscription).await, "applied");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_loses_nothing_that_it_took() {
    let database = database().await;
    let options = committer::Options { queue_events: 8, writers: 1, ..committer::Options::default() };
    let server = server_on(&database.url, options).await;
    let mut outsider = database.connect().await;
    let mut transaction = outsider.begin().await.unwrap();
    sqlx::query("lock table billsync.webhook_events in exclusive mode").execute(&mut *transaction).await.unwrap();
    let senders = (0..40).map(|number| {
        let (server, webhook) = (&server, user_created(number, now()));
        async move {
            let sent = Instant::now();
            (webhook.id.clone(), server.send(&webhook).await, sent.elapsed())
        }
    });
    let unlock = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        transaction.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(senders), unlock);
    let refused: Vec<_> = answers.iter().filter(|(_, answer, _)| answer.status == 503).collect();
    assert!((32..40).contains(&refused.len()), "at most eight were taken, and some were: {refused:#?}");
    for (id, answer, took) in &refused {
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(*took < Duration::from_millis(900), "{took:?}: it was not told at once");
        assert_eq!(database.ledger(id).await, None);
    }
    for (id, answer, _) in answers.iter().filter(|(_, answer, _)| answer.status == 200) {
        assert_eq!(answer.json()["outcome"], "applied");
        assert_eq!(database.ledger(id).await.as_deref(), Some("applied"));
    }
}

#[tokio::test]
async fn a_sender_that_leaves_before_its_answer_loses_nothing() {
    let (server, database) = server().await;
    let user = user_created(1, now());
    let mut connection = HttpConnection::open(server.address).await;
    connection.send(user.request(now())).await;
    drop(connection);
    until("the event is in the ledger", async || database.ledger(&user.id).await.is_some()).await;
    assert_eq!(server.outcome(&user).await, "duplicate");
}

#[tokio::test]
async fn a_sender_that_leaves_in_the_middle_leaves_nothing() {
    let (server, database) = server().await;
    let user = user_created(1, now());
    let request = user.request(now());
    for cut in [10, request.len() / 2, request.len() - 1] {
        let mut connection = HttpConnection::open(server.address).await;
        connection.send(&request[..cut]).await;
        drop(connection);
    }
    assert_eq!(server.outcome(&customer_created(1, now())).await, "unlinked");
    assert_eq!(database.ledger(&user.id).await, None);
    assert_eq!(server.outcome(&user).await, "applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_event_from_many_senders_at_once_is_applied_once() {
    let (server, database) = server().await;
    let user = user_created(1, now());
    let answers = join_all((0..50).map(|_| exchange(server.address, user.request(now())))).await;
    let outcomes: Vec<String> = answers.iter().map(|it| it.json()["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes.iter().filter(|it| *it == "applied").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|it| *it == "duplicate").count(), 49, "{outcomes:?}");
    assert_eq!(database.ask::<i64>("select count(*) from billsync.webhook_events").await, 1);
}
