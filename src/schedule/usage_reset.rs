//! The usage reset: ends the periods that are over, in batches that hold their locks for some milliseconds, and gives way
//! to events that come in. What a reset does stands in `domain::billing::usage_period` and in `store::usage`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::schedule::pace::Pace;
use crate::schedule::{Summary, Task, TaskError, Work};
use crate::store::{ErrorKind, StoreError};

/// Listed at a time; a list costs a scan of the index of due rows.
const PAGE: i64 = 20_000;

const FIRST_BATCH: usize = 128;
const LEAST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 2_000;

/// The task.
pub fn task() -> Task {
    let purpose = "Ends usage periods that are over: archives and zeroes the counters, copies the plan's limits anew";
    Task::new("usage-reset", purpose, Duration::from_secs(30), |work| async move { reset(&work, None).await })
}

/// Resets every row that is due, of all users or of one. A row that somebody else holds stays due: whoever holds it is
/// likely to reset it, and the next run does otherwise.
pub async fn reset(work: &Work, user: Option<&str>) -> Result<Summary, TaskError> {
    let pace = Pace::default();
    let mut round = Round::default();
    loop {
        let now = work.clock.now();
        let mut due = work.store.list_due_usage(now, user, PAGE).await?;
        // Neighbours in the tables, and the order in which everybody locks. Taken from the end.
        due.sort_unstable_by(|a, b| b.cmp(a));
        let (before, listed) = (round.summary.rows, due.len() as u64);
        round.rest = due;
        let shared = Mutex::new(round);
        let (first, second) = tokio::join!(run_lane(work, &pace, &shared, 0), run_lane(work, &pace, &shared, 1));
        first.and(second)?;
        round = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if round.summary.stopped {
            return Ok(round.summary);
        }
        // Nothing done: what is listed is held by others, or there is nothing left.
        if round.summary.rows == before {
            round.summary.left = listed;
            return Ok(round.summary);
        }
    }
}

/// What the lanes share.
#[derive(Debug, Default)]
struct Round {
    /// Due, and not tried yet.
    rest: Vec<Uuid>,
    size: BatchSize,
    summary: Summary,
}

/// One batch after the other. The server computes for one lane while the other waits for an answer; while events come in
/// there is only the first.
async fn run_lane(work: &Work, pace: &Pace, round: &Mutex<Round>, number: usize) -> Result<(), TaskError> {
    let locked = || round.lock().unwrap_or_else(PoisonError::into_inner);
    while number == 0 || !pace.is_busy() {
        let batch = {
            let mut round = locked();
            round.summary.stopped |= work.stop.is_asked() && !round.rest.is_empty();
            let from = round.rest.len().saturating_sub(round.size.get());
            if round.summary.stopped { Vec::new() } else { round.rest.split_off(from) }
        };
        if batch.is_empty() {
            break;
        }
        let (rows, held) = reset_batch(work, &batch).await?;
        let is_last = {
            let mut round = locked();
            round.size.learn(batch.len(), held, pace.aim());
            round.summary.rows += rows;
            round.summary.batches += 1;
            round.summary.longest_ms = round.summary.longest_ms.max(u64::try_from(held.as_millis()).ok());
            round.rest.is_empty()
        };
        if !is_last {
            pace.wait(&work.store, held).await;
        }
    }
    Ok(())
}

/// How many rows, and how long they were locked.
async fn reset_batch(work: &Work, batch: &[Uuid]) -> Result<(u64, Duration), StoreError> {
    let asked = Instant::now();
    match work.store.reset_usage(batch, work.clock.now()).await {
        // Whatever it waited for will have ended by the next list.
        Err(error) if error.kind() == ErrorKind::Contended => Ok((0, asked.elapsed())),
        other => other,
    }
}

/// How many rows a transaction takes: as many as the last ones show to fit the time that it should take.
#[derive(Debug)]
struct BatchSize(usize);

impl Default for BatchSize {
    fn default() -> Self {
        BatchSize(FIRST_BATCH)
    }
}

impl BatchSize {
    fn get(&self) -> usize {
        self.0
    }

    fn learn(&mut self, rows: usize, took: Duration, aim: Duration) {
        let next = match took.checked_div(2) {
            Some(half) if half > aim => self.0 / 2,
            _ if took > aim => self.0 - self.0 / 8,
            // A batch that was not full says little.
            _ if rows >= self.0 => self.0 + self.0 / 8,
            _ => self.0,
        };
        self.0 = next.clamp(LEAST_BATCH, LARGEST_BATCH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_at_once_when_they_take_long_and_grow_slowly() {
        const AIM: Duration = Duration::from_millis(10);
        let mut size = BatchSize::default();
        size.learn(128, AIM * 3, AIM);
        assert_eq!(size.get(), 64);
        size.learn(64, AIM / 2, AIM);
        assert_eq!(size.get(), 72);
        size.learn(5, AIM / 2, AIM);
        assert_eq!(size.get(), 72, "a small batch is no measure");
        for _ in 0..100 {
            size.learn(size.get(), AIM * 9, AIM);
        }
        assert_eq!(size.get(), LEAST_BATCH);
        for _ in 0..100 {
            size.learn(size.get(), Duration::ZERO, AIM);
        }
        assert_eq!(size.get(), LARGEST_BATCH);
    }
}
