//! Accounts that somebody else has locked are tried here, each for itself, so that a writer never waits for one of them
//! twice. Order is of no concern: the fold converges.
//!
//! A batch that meets a lock is not halved step by step, since every half that holds the locked account would wait for the
//! lock once more: all its accounts come here at once, the free ones commit within milliseconds, and the locked one remains.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use super::Backoff;
use super::batch::{Pending, Transactions};
use super::settle::Desk;

/// Transactions at a time for accounts that have not been tried alone.
const FRESH_TRIES: usize = 3;
/// Transactions at a time for accounts that were found locked when tried alone: each holds its connection for as long as
/// the lock timeout, and must not keep the fresh ones waiting.
const REPEATED_TRIES: usize = 2;

/// The waiting events of one account.
struct Account {
    waiting: VecDeque<Pending>,
    backoff: Backoff,
    found_locked: bool,
    is_tried: bool,
}

struct Tried {
    account: u64,
    events: usize,
    contended: Vec<Pending>,
    unavailable: bool,
}

/// Runs until the writers are gone and every account is settled.
pub(super) async fn run_aside<T: Transactions>(desk: Arc<Desk<T>>, mut queue: mpsc::UnboundedReceiver<Pending>) {
    let fresh = Semaphore::new(FRESH_TRIES);
    let repeated = Semaphore::new(REPEATED_TRIES);
    let mut accounts: HashMap<u64, Account> = HashMap::new();
    let mut tries = FuturesUnordered::new();
    loop {
        let key = tokio::select! {
            Some(pending) = queue.recv() => {
                let key = pending.account;
                accounts.entry(key).or_insert_with(Account::new).waiting.push_back(pending);
                key
            }
            Some(tried) = tries.next() => finish_try(&desk, &mut accounts, tried),
            else => return,
        };
        let Some(account) = accounts.get_mut(&key) else { continue };
        if account.is_tried {
            continue;
        }
        if account.waiting.is_empty() {
            accounts.remove(&key);
            continue;
        }
        account.is_tried = true;
        let batch = account.next_batch(desk.options.batch_events, desk.options.batch_bytes);
        let (delay, turns) = if account.found_locked { (account.backoff.advance(), &repeated) } else { (Duration::ZERO, &fresh) };
        tries.push(try_account(&desk, key, batch, delay, turns));
    }
}

impl Account {
    fn new() -> Account {
        let backoff = Backoff::up_to(Duration::from_millis(400));
        Account { waiting: VecDeque::new(), backoff, found_locked: false, is_tried: false }
    }

    fn next_batch(&mut self, most_events: usize, most_bytes: usize) -> Vec<Pending> {
        let mut bytes = 0_usize;
        let mut batch = Vec::new();
        while batch.len() < most_events
            && let Some(pending) = self.waiting.pop_front()
        {
            bytes = bytes.saturating_add(pending.bytes);
            if bytes > most_bytes && !batch.is_empty() {
                self.waiting.push_front(pending);
                break;
            }
            batch.push(pending);
        }
        batch
    }
}

async fn try_account<T: Transactions>(
    desk: &Desk<T>,
    account: u64,
    batch: Vec<Pending>,
    delay: Duration,
    turns: &Semaphore,
) -> Tried {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let _turn = turns.acquire().await;
    let events = batch.len();
    let leftover = desk.settle(batch).await;
    Tried { account, events, contended: leftover.contended, unavailable: leftover.unavailable }
}

fn finish_try<T: Transactions>(desk: &Desk<T>, accounts: &mut HashMap<u64, Account>, tried: Tried) -> u64 {
    desk.leave_aside(tried.account, tried.events.saturating_sub(tried.contended.len()));
    if let Some(account) = accounts.get_mut(&tried.account) {
        account.is_tried = false;
        account.found_locked = !tried.contended.is_empty() || tried.unavailable;
        for pending in tried.contended.into_iter().rev() {
            account.waiting.push_front(pending);
        }
    }
    tried.account
}
