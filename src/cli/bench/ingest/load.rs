//! So many deliveries on their way at a time, each begun when one before it was answered, and none repeated.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;

use crate::cli::bench::ingest::events::Mix;
use crate::cli::deliver::Courier;

/// After so many deliveries in a row without any answer nobody is there any more.
const MOST_UNANSWERED: u64 = 200;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    Events(u64),
    Time(Duration),
}

/// An answer: what it said, and the status, if there was any.
pub type Kind = (String, Option<u16>);

/// What became of many deliveries.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each answer of a kind took.
    pub answers: BTreeMap<Kind, Vec<Duration>>,
    pub seconds: f64,
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        for (kind, took) in other.answers {
            self.answers.entry(kind).or_default().extend(took);
        }
    }
}

/// Whether and why to end early. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    is_set: Arc<AtomicBool>,
    reason: Arc<Mutex<Option<String>>>,
}

impl Stop {
    /// What is on its way is still waited for. The first reason counts.
    pub fn stop(&self, reason: String) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// Why it was ended, if it was.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }
}

/// Deliveries of a mix of events to a server.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    concurrency: usize,
}

#[derive(Debug)]
struct Shared {
    courier: Courier,
    mix: Mix,
    users: u64,
    stop: Stop,
    /// In a row.
    unanswered: AtomicU64,
}

impl Load {
    /// Nothing is delivered yet.
    pub fn new(courier: Courier, mix: Mix, users: u32, concurrency: usize) -> Load {
        let shared = Shared { courier, mix, users: users.into(), stop: Stop::default(), unanswered: AtomicU64::new(0) };
        Load { shared: Arc::new(shared), concurrency }
    }

    /// Ends it early, in whatever phase it is.
    pub fn stop(&self) -> Stop {
        self.shared.stop.clone()
    }

    pub fn mix(&self) -> &Mix {
        &self.shared.mix
    }

    pub fn users(&self) -> u64 {
        self.shared.users
    }

    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Makes every user, one step of all of them after the other.
    pub async fn make_users(&self) -> anyhow::Result<Tally> {
        let events = self.shared.users * self.shared.mix.making_steps();
        self.deliver("making users", 0, events, None).await
    }

    /// Delivers what happens to users, one step of all of them after the other.
    pub async fn measure(&self, extent: Extent) -> anyhow::Result<Tally> {
        let first = self.shared.users * self.shared.mix.making_steps();
        match extent {
            Extent::Events(events) => self.deliver("measuring", first, first + events, None).await,
            Extent::Time(time) => self.deliver("measuring", first, u64::MAX, Some(time)).await,
        }
    }

    async fn deliver(&self, what: &'static str, first: u64, end: u64, time: Option<Duration>) -> anyhow::Result<Tally> {
        let bar = match time {
            Some(_) => ProgressBar::no_length(),
            None => ProgressBar::new(end - first),
        };
        let template =
            if time.is_some() { "{msg}: {pos} events, {per_sec}" } else { "{msg} {bar:40} {pos}/{len} events, {per_sec}" };
        bar.set_style(ProgressStyle::with_template(template)?);
        bar.set_message(what);
        let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(first)));
        let mut workers = JoinSet::new();
        for _ in 0..self.concurrency {
            let (shared, next, bar) = (Arc::clone(&self.shared), Arc::clone(&next), bar.clone());
            workers.spawn(async move {
                let mut tally = Tally::default();
                while time.is_none_or(|time| begun.elapsed() < time) && !shared.stop.is_set() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        break;
                    }
                    let (kind, took) = shared.deliver(number).await;
                    tally.answers.entry(kind).or_default().push(took);
                    bar.inc(1);
                }
                tally
            });
        }
        let mut tally = Tally::default();
        while let Some(ended) = workers.join_next().await {
            tally.merge(ended.context("a delivery ended unexpectedly")?);
        }
        tally.seconds = begun.elapsed().as_secs_f64();
        bar.finish_and_clear();
        Ok(tally)
    }
}

impl Shared {
    async fn deliver(&self, number: u64) -> (Kind, Duration) {
        let webhook = self.mix.webhook(1 + number % self.users, number / self.users);
        let begun = Instant::now();
        match self.courier.deliver(&webhook).await {
            Ok(answer) => {
                self.unanswered.store(0, Ordering::Relaxed);
                ((answer.to_string(), Some(answer.status)), answer.took)
            }
            Err(error) => {
                if self.unanswered.fetch_add(1, Ordering::Relaxed) >= MOST_UNANSWERED {
                    self.stop.stop(format!("ended early: the server does not answer any more ({error:#})"));
                }
                (("no answer".to_owned(), None), begun.elapsed())
            }
        }
    }
}
