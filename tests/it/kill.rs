//! The real binary, ended under full load: by SIGTERM, by kill -9, and by kill -9 of it and its whole Postgres. Every event
//! that was answered with 200 is in the ledger, exactly once and applied, and delivering everything again changes nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use billsync::clock::Clock;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};

use crate::http::client::Connection;
use crate::support::database::database;
use crate::support::events::{Webhook, customer_created, subscription_updated, user_created};
use crate::support::service::{Service, billsync};
use crate::support::until;

const USERS: u32 = 50;
const SENDERS: u32 = 16;

/// A load of senders: each posts one event after the other until its connection ends, and notes which were answered 200.
pub struct Load {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    sent: Arc<AtomicU32>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

/// The event with that number: users are changed in turn, each by a later snapshot than before.
fn event(number: u32, begun: DateTime<Utc>) -> Webhook {
    let (user, step) = (number % USERS, number / USERS);
    subscription_updated(user, step, begun + chrono::TimeDelta::seconds(i64::from(step)))
}

impl Load {
    pub fn start(address: SocketAddr, begun: DateTime<Utc>) -> Load {
        Load::start_at(address, begun, 0)
    }

    /// Goes on with the event of that number.
    fn start_at(address: SocketAddr, begun: DateTime<Utc>, number: u32) -> Load {
        let (acknowledged, sent) = (Arc::default(), Arc::new(AtomicU32::new(number)));
        let senders = (0..SENDERS).map(|_| {
            let (acknowledged, sent) = (Arc::clone(&acknowledged), Arc::clone(&sent));
            tokio::spawn(send_until_it_ends(address, begun, acknowledged, sent))
        });
        let senders = senders.collect();
        Load { acknowledged, sent, senders }
    }

    pub async fn until_acknowledged(&self, count: usize) {
        until("enough events are acknowledged", async || self.acknowledged.lock().unwrap().len() >= count).await;
    }

    /// The events that were answered with 200, and how many were sent in all.
    pub async fn end(self) -> (BTreeSet<String>, u32) {
        for ended in join_all(self.senders).await {
            ended.unwrap();
        }
        (self.acknowledged.lock().unwrap().clone(), self.sent.load(Ordering::SeqCst))
    }
}

async fn send_until_it_ends(
    address: SocketAddr,
    begun: DateTime<Utc>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    sent: Arc<AtomicU32>,
) {
    let mut connection = Connection::open(address).await;
    loop {
        let webhook = event(sent.fetch_add(1, Ordering::SeqCst), begun);
        connection.send(webhook.request(Clock::System.now())).await;
        let Some(answer) = connection.answer().await else { return };
        match answer.status {
            200 => assert!(acknowledged.lock().unwrap().insert(webhook.id), "{answer:?}"),
            503 => {}
            _ => panic!("{answer:?}"),
        }
        if answer.header("connection") == Some("close") {
            return;
        }
    }
}

/// Makes the plans, and the users with a customer each.
pub async fn prepare(settings: &[(&str, &str)], address: SocketAddr, begun: DateTime<Utc>) {
    let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/journeys/plans.toml");
    assert!(billsync(settings).args(["plans", "apply", plans]).status().unwrap().success());
    for number in 0..USERS {
        for webhook in [user_created(number, begun), customer_created(number, begun)] {
            assert_eq!(send(address, &webhook).await, "applied");
        }
    }
}

async fn send(address: SocketAddr, webhook: &Webhook) -> String {
    let answer = crate::http::client::exchange(address, webhook.request(Clock::System.now())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["outcome"].as_str().unwrap().to_owned()
}

/// Delivers the events of the load, some at a time.
async fn send_all(address: SocketAddr, begun: DateTime<Utc>, sent: u32) -> Vec<(String, String)> {
    let deliveries = (0..sent).map(|number| async move {
        let webhook = event(number, begun);
        let outcome = send(address, &webhook).await;
        (webhook.id, outcome)
    });
    stream::iter(deliveries).buffer_unordered(SENDERS as usize).collect().await
}

/// What the ledger says of every event of the load.
async fn ledger(url: &str) -> Vec<(String, String)> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = "select event_id, outcome from billsync.webhook_events where event_id like 'evt_sub_%' order by 1";
    sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
}

/// The users' five rows, without what tells when they were written.
pub async fn rows(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = "select concat_ws(' | ', u.user_id, u.email, s.current_plan, s.subscription_status, s.subscription_renewal_date, \
                 s.billing_sync_status, b.stripe_customer_id, b.stripe_subscription_id, g.plan_creators_limit, g.usage_anchor, \
                 d.last_webhook_event, d.last_webhook_timestamp) \
               from users u join user_subscriptions s on s.user_id = u.id join user_billing b on b.user_id = u.id \
                 join user_usage g on g.user_id = u.id join user_system_data d on d.user_id = u.id order by u.user_id";
    sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
}

/// Every acknowledged event is in the ledger, and none twice or with another outcome than its order allows.
pub async fn check_ledger(url: &str, acknowledged: &BTreeSet<String>) {
    let ledger = ledger(url).await;
    let ids: BTreeSet<String> = ledger.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), ledger.len(), "an event is in the ledger twice");
    let lost: Vec<_> = acknowledged.difference(&ids).collect();
    assert!(lost.is_empty(), "answered with 200 and lost: {lost:?}");
    // Several events of one user are on their way at a time: an older one may come late.
    assert!(ledger.iter().all(|(_, outcome)| outcome == "applied" || outcome == "stale"), "{ledger:?}");
}

/// Delivers everything once more: what was acknowledged is known, and in the end the rows are those of the newest events.
pub async fn deliver_again(address: SocketAddr, url: &str, begun: DateTime<Utc>, acknowledged: &BTreeSet<String>, sent: u32) {
    for (id, outcome) in send_all(address, begun, sent).await {
        assert!(!acknowledged.contains(&id) || outcome == "duplicate", "{id}: {outcome}");
    }
    let all_delivered = rows(url).await;
    assert_eq!(all_delivered.len(), USERS as usize);
    assert!(send_all(address, begun, sent).await.iter().all(|(_, outcome)| outcome == "duplicate"));
    assert_eq!(rows(url).await, all_delivered);
    for (row, number) in all_delivered.iter().zip(0..) {
        assert!(row.contains("| glow_up | active |") && row.contains("| synced |"), "user {number}: {row}");
    }
    let newest: Option<i64> = {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = "select count(*) from billsync.provider_objects where object_type = 'subscription' \
                   and as_of <> (select max(e.occurred_at) from billsync.webhook_events e where e.object_id = provider_objects.object_id)";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    };
    assert_eq!(newest, Some(0), "every subscription is as its newest event says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_drains_and_loses_nothing_that_was_acknowledged() {
    let database = database().await;
    let settings = [("DATABASE_URL", database.url.as_str())];
    let mut service = Service::start(&settings).await;
    let begun = Clock::System.now();
    prepare(&settings, service.address, begun).await;
    let load = Load::start(service.address, begun);
    load.until_acknowledged(300).await;
    service.terminate();
    assert!(service.ended().await, "it ends well:\n{}", service.log());
    let (acknowledged, sent) = load.end().await;
    check_ledger(&database.url, &acknowledged).await;

    let service = Service::start(&settings).await;
    deliver_again(service.address, &database.url, begun, &acknowledged, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let database = database().await;
    let settings = [("DATABASE_URL", database.url.as_str())];
    let mut service = Service::start(&settings).await;
    let begun = Clock::System.now();
    prepare(&settings, service.address, begun).await;
    let (mut acknowledged, mut sent) = (BTreeSet::new(), 0);
    for _ in 0..3 {
        let load = Load::start_at(service.address, begun, sent);
        load.until_acknowledged(150).await;
        service.kill();
        let (more, up_to) = load.end().await;
        acknowledged.extend(more);
        sent = up_to;
        check_ledger(&database.url, &acknowledged).await;
        service = Service::start(&settings).await;
    }
    deliver_again(service.address, &database.url, begun, &acknowledged, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_everything_under_load_loses_nothing_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let settings = [("BILLSYNC_HOME", home.path().to_str().unwrap())];
    let service = Service::start(&settings).await;
    let begun = Clock::System.now();
    prepare(&settings, service.address, begun).await;
    let load = Load::start(service.address, begun);
    load.until_acknowledged(300).await;
    let (guard, server) = (service.guard_pid(), postmaster_pid(home.path()));
    for pid in [guard, server] {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    service.kill();
    let (acknowledged, sent) = load.end().await;

    let mut service = Service::start(&settings).await;
    let url = embedded_url(home.path());
    check_ledger(&url, &acknowledged).await;
    deliver_again(service.address, &url, begun, &acknowledged, sent).await;
    service.terminate();
    assert!(service.ended().await, "{}", service.log());
    assert!(PgConnection::connect(&url).await.is_err(), "the embedded server ends with its last user");
}

fn postmaster_pid(home: &Path) -> i32 {
    let file = std::fs::read_to_string(home.join("postgres/data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().trim().parse().unwrap()
}

/// What billsync itself connects by.
fn embedded_url(home: &Path) -> String {
    let cluster = home.join("postgres");
    let password = std::fs::read_to_string(cluster.join("password")).unwrap();
    let file = std::fs::read_to_string(cluster.join("data/postmaster.pid")).unwrap();
    format!("postgres://billsync:{}@localhost/billsync?host={}", password.trim(), file.lines().nth(4).unwrap())
}
