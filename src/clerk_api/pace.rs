//! How fast requests may follow one another. It slows down when Clerk says that it is too fast, and recovers by and by.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The slowest pace that being told off leads to.
const SLOWEST: Duration = Duration::from_secs(2);

/// Turns, handed out one after the other.
#[derive(Debug)]
pub(super) struct Pace {
    normal: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_turn: Instant,
    interval: Duration,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Pace {
        Pace { normal: interval, state: Mutex::new(State { next_turn: Instant::now(), interval }) }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) {
        let at = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let at = state.next_turn.max(Instant::now());
            state.next_turn = at + state.interval;
            at
        };
        sleep_until(at).await;
    }

    /// Nobody has a turn for that long, and from then on at half the pace.
    pub(super) fn hold(&self, pause: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.interval = (state.interval * 2).min(SLOWEST.max(self.normal));
        state.next_turn = state.next_turn.max(Instant::now() + pause);
    }

    /// A request went well: a twentieth faster, up to the normal pace.
    pub(super) fn recover(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.interval = (state.interval * 19 / 20).max(self.normal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_apart_and_a_hold_delays_everybody() {
        let pace = Pace::new(Duration::from_millis(100));
        let started = Instant::now();
        for _ in 0..3 {
            pace.turn().await;
        }
        assert_eq!(started.elapsed().as_millis(), 200);
        pace.hold(Duration::from_secs(3));
        pace.turn().await;
        assert!(started.elapsed() >= Duration::from_millis(3200), "{:?}", started.elapsed());
        let before = Instant::now();
        pace.turn().await;
        assert_eq!(before.elapsed().as_millis(), 200, "half the pace");
        for _ in 0..100 {
            pace.recover();
        }
        pace.turn().await;
        let before = Instant::now();
        pace.turn().await;
        assert_eq!(before.elapsed().as_millis(), 100, "recovered");
    }
}
