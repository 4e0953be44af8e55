//! Stories as a provider tells them: signed requests, in any order, some twice, from eight senders to two processes on one
//! database, one of which is killed in the middle. In the end every story's rows are those that a person derived from the
//! rules, every answer of 200 has its ledger row, and a rebuild finds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use billsync::clock::Clock;
use billsync::domain::rules::{Livemode, Rules};
use billsync::ingest::transaction;
use fastrand::Rng;
use futures_util::future::join_all;

use crate::http::client::{Answer, Connection};
use crate::journeys_in_postgres::World;
use crate::rebuild::differences;
use crate::stories::dialect::Dialect;
use crate::stories::journey::{Journey, load_all};
use crate::support::events::Webhook;
use crate::support::service::Service;
use crate::support::wait::DEADLINE;

const SENDERS: usize = 8;

/// So many stories are told in all, each in an order of its own.
const RUNS: usize = 300;

/// A variable with the number that a run printed: the same orders, the same process killed after the same delivery.
const SEED: &str = "JOURNEYS_SEED";

/// Two processes, of which one may be gone for a while.
struct Fleet {
    addresses: Mutex<[Option<SocketAddr>; 2]>,
}

/// What is sent, and what was answered.
struct Traffic {
    fleet: Fleet,
    deliveries: Vec<Webhook>,
    next: AtomicUsize,
    /// Event id → the outcomes that a 200 told.
    answers: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Fleet {
    fn address(&self, process: usize) -> Option<SocketAddr> {
        let addresses = *self.addresses.lock().unwrap();
        addresses[process % 2].or(addresses[(process + 1) % 2])
    }

    fn set(&self, process: usize, address: Option<SocketAddr>) {
        self.addresses.lock().unwrap()[process] = address;
    }
}

impl Traffic {
    /// Sends what is next until nothing is left; each one until it is answered with 200, wherever.
    async fn send(&self, sender: usize) {
        let mut open: Option<(SocketAddr, Connection)> = None;
        while let Some(webhook) = self.deliveries.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            let deadline = std::time::Instant::now() + DEADLINE;
            for attempt in 0.. {
                assert!(std::time::Instant::now() < deadline, "{} is not accepted", webhook.id);
                let address = self.fleet.address(sender + attempt).unwrap();
                match self.post(&mut open, address, webhook).await {
                    Some(answer) if answer.status == 200 => {
                        let outcome = answer.json()["outcome"].as_str().unwrap().to_owned();
                        self.answers.lock().unwrap().entry(webhook.id.clone()).or_default().push(outcome);
                        break;
                    }
                    Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    None => open = None,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// On the connection that is open, if it is to that process. `None` when the process is gone.
    async fn post(&self, open: &mut Option<(SocketAddr, Connection)>, to: SocketAddr, webhook: &Webhook) -> Option<Answer> {
        if open.as_ref().is_none_or(|(address, _)| *address != to) {
            *open = Some((to, Connection::try_open(to).await?));
        }
        let (_, connection) = open.as_mut()?;
        connection.send(webhook.request(Clock::System.now())).await;
        connection.answer().await
    }

    async fn until_sent(&self, count: usize) {
        while self.next.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn settings(rules: &Rules, url: &str) -> Vec<(&'static str, String)> {
    let livemode = match rules.livemode {
        Livemode::Any => "any",
        Livemode::Live => "live",
        Livemode::Test => "test",
    };
    vec![
        ("DATABASE_URL", url.to_owned()),
        ("BILLSYNC_LIVEMODE", livemode.to_owned()),
        ("BILLSYNC_LINK_BY_PAYMENT_LINK", rules.link_by_payment_link.to_string()),
        ("BILLSYNC_LINK_BY_VERIFIED_EMAIL", rules.link_by_verified_email.to_string()),
    ]
}

/// Tells the stories, which share their settings, to two processes and kills one of them.
async fn tell(journeys: &[&Journey], seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let world = World::new(journeys[0].rules()).await;
    for journey in journeys {
        world.link(journey).await;
        let imports: Vec<_> = journey.imports().into_iter().map(Arc::new).collect();
        transaction::commit(&world.stores[0], &imports, &world.rules, &world.clock).await.unwrap();
    }
    let events: Vec<Webhook> =
        journeys.iter().flat_map(|journey| journey.webhooks(*rng.choice(&Dialect::ALL).unwrap())).collect();
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "two events of one id");
    let mut deliveries = events.clone();
    deliveries.extend(events.iter().filter(|_| rng.u8(0..4) == 0).cloned());
    rng.shuffle(&mut deliveries);

    let settings = settings(&world.rules, &world.database.url);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut services = vec![Service::start(&settings).await, Service::start(&settings).await];
    let fleet = Fleet { addresses: Mutex::new([Some(services[0].address), Some(services[1].address)]) };
    let traffic = Traffic { fleet, deliveries, next: AtomicUsize::new(0), answers: Mutex::default() };
    let (victim, moment) = (rng.usize(0..2), rng.usize(1..traffic.deliveries.len().max(2)));
    let killing = async {
        traffic.until_sent(moment).await;
        traffic.fleet.set(victim, None);
        services.remove(victim).kill();
        let again = Service::start(&settings).await;
        traffic.fleet.set(victim, Some(again.address));
        services.insert(victim, again);
    };
    tokio::join!(join_all((0..SENDERS).map(|sender| traffic.send(sender))), killing);
    for service in &mut services {
        service.terminate();
        assert!(service.ended().await, "{}", service.log());
    }
    check(&world, journeys, &traffic, ids.len()).await;
    world.close().await;
}

async fn check(world: &World, journeys: &[&Journey], traffic: &Traffic, events: usize) {
    let kept: i64 = world.database.ask("select count(*) from billsync.webhook_events where source = 'webhook'").await;
    assert_eq!(kept, i64::try_from(events).unwrap(), "each event is in the ledger once");
    let answers = traffic.answers.lock().unwrap().clone();
    assert_eq!(answers.len(), events);
    for (id, outcomes) in &answers {
        // The first answer may have been lost with the process; what failed is tried again.
        let news = outcomes.iter().filter(|outcome| *outcome != "duplicate" && *outcome != "failed").count();
        assert!(news <= 1, "{id} was news more than once: {outcomes:?}");
    }
    // As the webhooks left the rows; what the clock has to change is none of theirs.
    assert_eq!(differences(world, Clock::System.now()).await, Vec::<String>::new());
    let mut lines = Vec::new();
    for journey in journeys {
        lines.extend(world.faults(journey).await);
    }
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "a failure shows what was printed")]
async fn three_hundred_stories_survive_a_process_that_is_killed() {
    let mut journeys = load_all();
    journeys.retain(Journey::is_told_by_webhooks);
    let mut by_settings: BTreeMap<String, Vec<&Journey>> = BTreeMap::new();
    for journey in &journeys {
        by_settings.entry(format!("{:?}", journey.rules())).or_default().push(journey);
    }
    let mut groups: Vec<Vec<&Journey>> = by_settings.into_values().collect();
    groups.sort_by_key(Vec::len);
    let most = groups.pop().unwrap();
    let others: usize = groups.iter().map(Vec::len).sum();
    let rounds = (RUNS - others).div_ceil(most.len());
    groups.extend(std::iter::repeat_n(most, rounds));
    assert!(groups.iter().map(Vec::len).sum::<usize>() >= RUNS);
    let given = std::env::var_os(SEED).map(|seed| seed.to_string_lossy().parse().unwrap());
    let first = given.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    println!("{SEED}={first}");
    for (seed, group) in (first..).zip(groups) {
        println!("{} stories", group.len());
        tell(&group, seed).await;
    }
}
