//! How fast a task may write that has a lot to write: as fast as the disk takes it while nobody else is there, and in small
//! steps with rests between them while events come in. A commit waits for all that was written before it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::store::{Pressure, Store};

/// What may be on its way to the disk when a batch begins. Postgres holds four times as much by default, and whoever writes
/// more than that waits for the disk with all of its locks.
const MOST_UNWRITTEN: i64 = 1024 * 1024;

/// How long to wait for the disk to catch up; a server that is this slow is not helped by waiting longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks.
const A_MOMENT: Duration = Duration::from_millis(2);

/// Events come in as long as the last one is no older.
const COMING_IN: Duration = Duration::from_secs(1);

/// How long a batch should take when nobody waits for it. One that a busy machine or disk holds up stays below 50 ms.
const AIM: Duration = Duration::from_millis(10);

/// And while events come in: each of them may have to wait for one, and for what it wrote to reach the disk, which can be the
/// whole page of every row.
const SHORT_AIM: Duration = Duration::from_micros(1500);

/// How much longer than it worked the task rests then.
const REST: u32 = 4;

const LONGEST_REST: Duration = Duration::from_millis(200);

/// The pace of one run.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Whether the server has refused to tell.
    is_blind: bool,
    newest_event: Option<Option<DateTime<Utc>>>,
    came_in: Option<Instant>,
}

impl Pace {
    /// How long a batch should take.
    pub(super) fn aim(&self) -> Duration {
        if self.is_busy() { SHORT_AIM } else { AIM }
    }

    /// Whether events come in.
    pub(super) fn is_busy(&self) -> bool {
        self.seen().came_in.is_some_and(|came_in| came_in.elapsed() < COMING_IN)
    }

    /// Returns when the next batch may begin, after one that worked for that long.
    pub(super) async fn wait(&self, store: &Store, worked: Duration) {
        let begun = Instant::now();
        let mut has_rested = false;
        while !self.seen().is_blind && begun.elapsed() < PATIENCE {
            let Ok(pressure) = store.look_at_pressure().await else {
                self.seen().is_blind = true;
                return;
            };
            self.note(&pressure, Instant::now());
            if !has_rested && self.is_busy() {
                has_rested = true;
                tokio::time::sleep((worked * REST).min(LONGEST_REST)).await;
            } else if pressure.unwritten_bytes > MOST_UNWRITTEN {
                tokio::time::sleep(A_MOMENT).await;
            } else {
                return;
            }
        }
    }

    fn note(&self, pressure: &Pressure, now: Instant) {
        let mut seen = self.seen();
        let known = seen.newest_event.replace(pressure.newest_event);
        if known.is_some_and(|known| known != pressure.newest_event) {
            seen.came_in = Some(now);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_event_that_comes_in_makes_batches_short_for_a_while() {
        let newest = DateTime::UNIX_EPOCH;
        let seen = |newest_event| Pressure { unwritten_bytes: 0, newest_event };
        let pace = Pace::default();
        pace.note(&seen(Some(newest)), Instant::now());
        pace.note(&seen(Some(newest)), Instant::now());
        assert_eq!(pace.aim(), AIM, "the newest event is one of long ago");
        pace.note(&seen(Some(newest + TimeDelta::seconds(1))), Instant::now());
        pace.note(&seen(Some(newest + TimeDelta::seconds(1))), Instant::now());
        assert_eq!(pace.aim(), SHORT_AIM);
        pace.seen().came_in = Instant::now().checked_sub(COMING_IN);
        assert_eq!(pace.aim(), AIM, "none came for a second");
    }

    #[test]
    fn the_first_event_of_all_counts() {
        let pace = Pace::default();
        pace.note(&Pressure { unwritten_bytes: 0, newest_event: None }, Instant::now());
        assert_eq!(pace.aim(), AIM);
        pace.note(&Pressure { unwritten_bytes: 0, newest_event: Some(DateTime::UNIX_EPOCH) }, Instant::now());
        assert_eq!(pace.aim(), SHORT_AIM);
    }
}
