//! The rules of group commit, each against a scripted database and in virtual time: no Postgres, no waiting.

mod coming_back;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use billsync::domain::event::{Content, Event, Outcome, Payload, Provider, Source};
use billsync::ingest::committer::{Committer, Options, SubmitError, Transactions};
use billsync::ingest::transaction::{BatchError, Receipt};
use chrono::DateTime;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

/// What the database does with one batch.
enum Step {
    Commit,
    Refuse(BatchError),
    Panic,
}

type Plan = dyn Fn(&Script, &[String]) -> (Duration, Step) + Send + Sync;

/// Remembers what was tried and what was committed; behaves by plan.
#[derive(Clone)]
struct Script {
    started: Instant,
    tried: Arc<Mutex<Vec<Vec<String>>>>,
    committed: Arc<Mutex<Vec<String>>>,
    failed: Arc<Mutex<Vec<(String, String)>>>,
    probes_accepted: Arc<Mutex<bool>>,
    plan: Arc<Plan>,
}

impl Script {
    fn new(plan: impl Fn(&Script, &[String]) -> (Duration, Step) + Send + Sync + 'static) -> Script {
        Script {
            started: Instant::now(),
            tried: Arc::default(),
            committed: Arc::default(),
            failed: Arc::default(),
            probes_accepted: Arc::default(),
            plan: Arc::new(plan),
        }
    }

    /// Every transaction takes that long and succeeds.
    fn succeeding_after(took: Duration) -> Script {
        Script::new(move |_script, _ids| (took, Step::Commit))
    }

    fn tries(&self) -> Vec<Vec<String>> {
        self.tried.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.tries().iter().map(Vec::len).collect()
    }

    fn committed(&self) -> Vec<String> {
        self.committed.lock().unwrap().clone()
    }
}

impl Transactions for Script {
    async fn commit(&self, events: &[Arc<Event>]) -> Result<Vec<Receipt>, BatchError> {
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        let (took, step) = (self.plan)(self, &ids);
        self.tried.lock().unwrap().push(ids.clone());
        sleep(took).await;
        match step {
            Step::Refuse(error) => Err(error),
            Step::Panic => panic!("scripted"),
            Step::Commit => {
                self.committed.lock().unwrap().extend(ids);
                Ok(events.iter().map(|_event| applied()).collect())
            }
        }
    }

    async fn commit_failed(&self, event: &Event, reason: &str) -> Result<Receipt, BatchError> {
        self.failed.lock().unwrap().push((event.id.clone(), reason.to_owned()));
        Ok(Receipt { outcome: Outcome::Failed, reason: Some(reason.to_owned()) })
    }

    async fn probe(&self) -> Result<(), BatchError> {
        if *self.probes_accepted.lock().unwrap() { Ok(()) } else { Err(unavailable()) }
    }
}

fn applied() -> Receipt {
    Receipt { outcome: Outcome::Applied, reason: None }
}

fn unavailable() -> BatchError {
    BatchError::Unavailable("disk full".into())
}

fn event(id: impl Into<String>, account: impl Into<String>) -> Event {
    sized_event(id, account, 2)
}

fn sized_event(id: impl Into<String>, account: impl Into<String>, bytes: usize) -> Event {
    let account = account.into();
    Event {
        provider: Provider::Stripe,
        id: id.into(),
        event_type: "customer.updated".into(),
        occurred_at: DateTime::UNIX_EPOCH,
        api_version: None,
        livemode: None,
        account: String::new(),
        source: Source::Webhook,
        object_id: Some(account.clone()),
        owner_id: Some(account.clone()),
        customer_ids: vec![account],
        clerk_user_ids: Vec::new(),
        payload: Payload { text: " ".repeat(bytes).into(), fits_jsonb: true },
        content: Content::Ignored { reason: "scripted".into() },
    }
}

fn one_writer() -> Options {
    Options { writers: 1, ..Options::default() }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Submits all at once and gives the answers in order, each with the time that it took.
async fn submit_all(committer: &Committer, events: Vec<Event>) -> Vec<(Result<Receipt, SubmitError>, Duration)> {
    join_all(events.into_iter().map(|event| async {
        let started = Instant::now();
        let answer = committer.submit(event).await;
        (answer, started.elapsed())
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn an_event_alone_does_not_wait_for_others() {
    let script = Script::succeeding_after(millis(3));
    let committer = Committer::start_with(script.clone(), one_writer());
    let answers = submit_all(&committer, vec![event("evt_1", "cus_1")]).await;
    assert_eq!(answers, vec![(Ok(applied()), millis(3))]);
    assert_eq!(script.sizes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_a_writer_is_busy_shares_its_next_transactions() {
    let script = Script::succeeding_after(millis(10));
    let committer = Committer::start_with(script.clone(), one_writer());
    let events = (0..200).map(|n| event(format!("evt_{n}"), format!("cus_{n}"))).collect();
    let answers = submit_all(&committer, events).await;
    assert!(answers.iter().all(|(answer, _)| *answer == Ok(applied())));
    assert_eq!(script.sizes(), [64, 64, 64, 8], "64 events are the most of one transaction");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_bounded_in_bytes_but_takes_one_event_of_any_size() {
    let script = Script::succeeding_after(millis(1));
    let committer = Committer::start_with(script.clone(), one_writer());
    let mib = 1024 * 1024;
    let sizes = [2 * mib, 2 * mib, 1, 5 * mib, 3 * mib];
    let events = sizes.iter().enumerate().map(|(n, bytes)| sized_event(format!("evt_{n}"), "cus_1", *bytes)).collect();
    submit_all(&committer, events).await;
    assert_eq!(script.sizes(), [2, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() {
    let script = Script::succeeding_after(millis(100));
    let committer = Committer::start_with(script.clone(), Options { queue_events: 10, ..Options::default() });
    let events = (0..11).map(|n| event(format!("evt_{n}"), format!("cus_{n}"))).collect();
    let answers = submit_all(&committer, events).await;
    assert_eq!(answers[10], (Err(SubmitError::QueueFull), Duration::ZERO));
    assert!(answers[..10].iter().all(|(answer, _)| *answer == Ok(applied())));
    assert_eq!(committer.submit(event("evt_10", "cus_10")).await, Ok(applied()));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_reserved_before_a_body_is_read_and_kept_until_its_event_is_settled() {
    let script = Script::succeeding_after(millis(100));
    let committer = Committer::start_with(script, Options { queue_bytes: 1000, ..Options::default() });
    let mut reservation = committer.reserve(600).unwrap();
    assert_eq!(committer.reserve(401).err(), Some(SubmitError::BytesFull));
    assert_eq!(reservation.grow(401), Err(SubmitError::BytesFull));
    assert_eq!(reservation.grow(400), Ok(()));
    let sender = tokio::spawn({
        let committer = committer.clone();
        async move { committer.submit_reserved(event("evt_1", "cus_1"), reservation).await }
    });
    sleep(millis(50)).await;
    assert_eq!(committer.reserve(1).err(), Some(SubmitError::BytesFull));
    assert_eq!(sender.await.unwrap(), Ok(applied()));
    assert!(committer.reserve(1000).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_eight_seconds_and_its_event_is_committed_all_the_same() {
    let script = Script::succeeding_after(Duration::from_secs(9));
    let committer = Committer::start_with(script.clone(), Options::default());
    let answers = submit_all(&committer, vec![event("evt_1", "cus_1")]).await;
    assert_eq!(answers, [(Err(SubmitError::TimedOut), Duration::from_secs(8))]);
    assert!(committer.close().await);
    assert_eq!(script.committed(), ["evt_1"]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_goes_away_does_not_take_its_event_along() {
    let script = Script::succeeding_after(millis(20));
    let committer = Committer::start_with(script.clone(), one_writer());
    let gone = tokio::time::timeout(millis(5), committer.submit(event("evt_1", "cus_1"))).await;
    assert!(gone.is_err());
    assert!(committer.close().await);
    assert_eq!(script.committed(), ["evt_1"]);
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_is_found_and_fails_alone() {
    for poison in [0, 1, 31, 32, 63] {
        let poison_id = format!("evt_{poison}");
        let looked_for = poison_id.clone();
        let script = Script::new(move |_script, ids| match ids.contains(&looked_for) {
            true => (millis(2), Step::Refuse(BatchError::Poison("22P05".into()))),
            false => (millis(2), Step::Commit),
        });
        let committer = Committer::start_with(script.clone(), one_writer());
        let events = (0..64).map(|n| event(format!("evt_{n}"), format!("cus_{n}"))).collect();
        let answers = submit_all(&committer, events).await;
        for (n, (answer, _)) in answers.iter().enumerate() {
            let expected = if n == poison { Outcome::Failed } else { Outcome::Applied };
            assert_eq!(answer.as_ref().map(|receipt| receipt.outcome), Ok(expected), "event {n}, poison {poison}");
        }
        let failed = script.failed.lock().unwrap().clone();
        assert_eq!(failed, [(poison_id.clone(), "22P05".to_owned())]);
        let committed = script.committed();
        assert_eq!(committed.iter().collect::<BTreeSet<_>>().len(), 63);
        assert_eq!(committed.len(), 63, "none is committed twice");
        assert!(script.sizes().len() <= 13, "two tries for each halving: {:?}", script.sizes());
        assert_eq!(committer.health().last_failure, None, "a poison event says nothing against the database");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_connection_broke_runs_once_more() {
    let script = Script::new(|script, _ids| match script.tries().len() {
        0 => (millis(1), Step::Refuse(BatchError::ConnectionLost("reset".into()))),
        _ => (millis(1), Step::Commit),
    });
    let committer = Committer::start_with(script.clone(), one_writer());
    assert_eq!(committer.submit(event("evt_1", "cus_1")).await, Ok(applied()));
    assert_eq!(script.sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_twice_is_an_unavailable_database() {
    let script = Script::new(|_script, _ids| (millis(1), Step::Refuse(BatchError::ConnectionLost("reset".into()))));
    let committer = Committer::start_with(script.clone(), one_writer());
    assert_eq!(committer.submit(event("evt_1", "cus_1")).await, Err(SubmitError::Unavailable));
    assert_eq!(script.sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_database_shows_until_it_accepts_again() {
    let script = Script::new(|script, _ids| match script.tries().len() {
        0 => (millis(1), Step::Refuse(unavailable())),
        _ => (millis(1), Step::Commit),
    });
    let committer = Committer::start_with(script.clone(), one_writer());
    assert_eq!(committer.submit(event("evt_1", "cus_1")).await, Err(SubmitError::Unavailable));
    assert_eq!(committer.health().last_failure.as_deref(), Some("disk full"));
    let answers = submit_all(&committer, vec![event("evt_1", "cus_1")]).await;
    assert_eq!(answers[0].0, Ok(applied()));
    assert!(answers[0].1 < millis(100), "the first retry is not made to wait: {:?}", answers[0].1);
    assert_eq!(committer.health().last_failure, None);
}

#[tokio::test(start_paused = true)]
async fn recovery_is_noticed_without_an_event() {
    let script = Script::new(|_script, _ids| (millis(1), Step::Refuse(unavailable())));
    let committer = Committer::start_with(script.clone(), one_writer());
    assert_eq!(committer.submit(event("evt_1", "cus_1")).await, Err(SubmitError::Unavailable));
    sleep(Duration::from_secs(60)).await;
    assert!(committer.health().last_failure.is_some());
    *script.probes_accepted.lock().unwrap() = true;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(committer.health().last_failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_is_not_hammered_and_its_senders_do_not_wait_long() {
    let script = Script::new(|_script, _ids| (millis(1), Step::Refuse(unavailable())));
    let committer = Committer::start_with(script.clone(), Options::default());
    let end = Instant::now() + Duration::from_secs(30);
    let senders = (0..64).map(|n| {
        let committer = committer.clone();
        async move {
            let mut slowest = Duration::ZERO;
            while Instant::now() < end {
                let started = Instant::now();
                let answer = committer.submit(event(format!("evt_{n}"), format!("cus_{n}"))).await;
                assert_eq!(answer, Err(SubmitError::Unavailable));
                slowest = slowest.max(started.elapsed());
            }
            slowest
        }
    });
    let slowest = join_all(senders).await.into_iter().max().unwrap();
    assert!(slowest <= millis(1100), "{slowest:?}");
    let tries = script.sizes().len();
    assert!(tries <= 4 * 40, "{tries} transactions in 30 s");
}

/// A database in which the account is locked until `locked_for` has passed; a lock timeout takes 200 ms, a commit 3.
fn locked(account: &'static str, locked_for: Duration) -> Script {
    Script::new(move |script, ids| {
        let is_locked = script.started.elapsed() < locked_for;
        if is_locked && ids.iter().any(|id| id.starts_with(account)) {
            (millis(200), Step::Refuse(BatchError::Contended("55P03".into())))
        } else {
            (millis(3), Step::Commit)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_locked_account_does_not_hold_up_the_others() {
    let script = locked("locked", Duration::from_secs(3));
    let committer = Committer::start_with(script.clone(), Options::default());
    // Three rounds, so that events of the locked account keep coming while it is known to be locked.
    let mut rounds = Vec::new();
    for round in 0..3 {
        let committer = committer.clone();
        rounds.push(async move {
            sleep(millis(700 * round)).await;
            let mut events = vec![event(format!("locked_{round}"), "locked")];
            events.extend((0..200).map(|n| event(format!("free_{round}_{n}"), format!("cus_{n}"))));
            submit_all(&committer, events).await
        });
    }
    for answers in join_all(rounds).await {
        assert!(answers.iter().all(|(answer, _)| *answer == Ok(applied())));
        let slowest = answers[1..].iter().map(|(_, took)| *took).max().unwrap();
        assert!(slowest < millis(500), "{slowest:?}");
    }
    let took = script.started.elapsed();
    assert!(took < millis(3700), "the locked one is committed soon after its release: {took:?}");
    assert_eq!(script.committed().len(), 603);
}

#[tokio::test(start_paused = true)]
async fn many_locked_accounts_do_not_hold_up_the_others_for_long() {
    let script = locked("locked", Duration::from_secs(3));
    let committer = Committer::start_with(script.clone(), Options::default());
    let mut events: Vec<Event> = (0..20).map(|n| event(format!("locked_{n}"), format!("acct_{n}"))).collect();
    events.extend((0..200).map(|n| event(format!("free_{n}"), format!("cus_{n}"))));
    let answers = submit_all(&committer, events).await;
    assert!(answers.iter().all(|(answer, _)| *answer == Ok(applied())));
    let slowest = answers[20..].iter().map(|(_, took)| *took).max().unwrap();
    assert!(slowest < millis(2000), "{slowest:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stays_locked_is_given_back_to_its_sender_after_five_seconds() {
    let script = locked("locked", Duration::from_secs(60));
    let committer = Committer::start_with(script.clone(), Options::default());
    let answers = submit_all(&committer, vec![event("locked_1", "locked"), event("free", "cus_1")]).await;
    let (answer, took) = &answers[0];
    assert_eq!(*answer, Err(SubmitError::Contended));
    assert!(*took >= Duration::from_secs(5) && *took < Duration::from_secs(7), "{took:?}");
    assert_eq!(answers[1].0, Ok(applied()));
    assert_eq!(script.committed(), ["free"]);
    let again = committer.submit(event("locked_2", "locked")).await;
    assert_eq!(again, Err(SubmitError::Contended));
}

#[tokio::test(start_paused = true)]
async fn a_locked_account_takes_at_most_half_of_the_queue() {
    let script = locked("locked", Duration::from_secs(60));
    let committer = Committer::start_with(script.clone(), Options { queue_events: 20, ..one_writer() });
    let mut senders = Vec::new();
    for n in 0..20 {
        let committer = committer.clone();
        senders.push(tokio::spawn(async move { committer.submit(event(format!("locked_{n}"), "locked")).await }));
    }
    sleep(millis(300)).await;
    assert_eq!(committer.submit(event("free", "cus_1")).await, Ok(applied()), "the other half is free");
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Err(SubmitError::Contended));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_in_a_locked_account_fails_once_the_lock_is_gone() {
    let script = Script::new(|script, ids| {
        if !ids.contains(&"poison".to_owned()) {
            (millis(3), Step::Commit)
        } else if script.started.elapsed() < Duration::from_secs(2) {
            (millis(200), Step::Refuse(BatchError::Contended("55P03".into())))
        } else {
            (millis(3), Step::Refuse(BatchError::Poison("22003".into())))
        }
    });
    let committer = Committer::start_with(script.clone(), one_writer());
    let events = vec![event("poison", "cus_1"), event("evt_2", "cus_1"), event("evt_3", "cus_2")];
    let outcomes: Vec<_> = submit_all(&committer, events).await.into_iter().map(|(answer, _)| answer.unwrap().outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Applied, Outcome::Applied]);
}

#[tokio::test(start_paused = true)]
async fn closing_commits_everything_that_was_accepted_and_refuses_the_rest() {
    let script = locked("locked", Duration::from_secs(2));
    let committer = Committer::start_with(script.clone(), Options::default());
    let senders: Vec<_> = (0..300)
        .map(|n| {
            let committer = committer.clone();
            let id = if n % 50 == 0 { format!("locked_{n}") } else { format!("evt_{n}") };
            tokio::spawn(async move { committer.submit(event(id, format!("cus_{}", n % 50))).await })
        })
        .collect();
    sleep(millis(1)).await;
    assert_eq!(committer.health().queue_depth, 300);
    let closing = committer.close().await;
    assert!(closing);
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Ok(applied()));
    }
    assert_eq!(script.committed().len(), 300);
    assert_eq!(committer.submit(event("late", "cus_1")).await, Err(SubmitError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_panics_is_noticed_and_nothing_is_accepted_any_more() {
    let script = Script::new(|_script, ids| match ids.contains(&"evt_1".to_owned()) {
        true => (millis(1), Step::Panic),
        false => (millis(1), Step::Commit),
    });
    let committer = Committer::start_with(script, Options::default());
    assert_eq!(committer.submit(event("evt_1", "cus_1")).await, Err(SubmitError::Unavailable));
    committer.died().await;
    assert_eq!(committer.submit(event("evt_2", "cus_2")).await, Err(SubmitError::Closed));
    assert!(!committer.close().await);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_move_is_reported_as_stuck() {
    let script = Script::succeeding_after(Duration::from_secs(20));
    let committer = Committer::start_with(script, Options::default());
    let sender = tokio::spawn({
        let committer = committer.clone();
        async move { committer.submit(event("evt_1", "cus_1")).await }
    });
    sleep(Duration::from_secs(7)).await;
    assert!(!committer.health().stuck);
    assert_eq!(committer.health().queue_depth, 1);
    sleep(Duration::from_secs(2)).await;
    assert!(committer.health().stuck);
    sleep(Duration::from_secs(12)).await;
    assert!(!committer.health().stuck);
    assert_eq!(sender.await.unwrap(), Err(SubmitError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn whoever_can_wait_is_not_refused() {
    let script = Script::succeeding_after(Duration::from_secs(10));
    let committer = Committer::start_with(script.clone(), Options { queue_events: 4, ..one_writer() });
    let patient = (0..12).map(|n| committer.submit_patiently(event(format!("evt_{n}"), "cus_1")));
    assert!(join_all(patient).await.iter().all(|answer| *answer == Ok(applied())));
    let mut seen = BTreeMap::new();
    script.committed().into_iter().for_each(|id| *seen.entry(id).or_insert(0) += 1);
    assert!(seen.len() == 12 && seen.values().all(|count| *count == 1));
}
