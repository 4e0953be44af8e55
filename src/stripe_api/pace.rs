//! How fast Stripe is asked: a token bucket whose rate falls when Stripe says that it is too much, and recovers slowly.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests that may follow each other at once after a pause.
const BURST: f64 = 4.0;
/// One request each five seconds, at worst.
const LOWEST_RATE: f64 = 0.2;
/// Answers that say "too many" within this time are about the same burst.
const SAME_BURST: Duration = Duration::from_secs(1);
/// How much of the full rate comes back with each good answer.
const RECOVERY: f64 = 0.02;

/// Shared by everybody who asks.
#[derive(Debug)]
pub(super) struct Pace {
    full_rate: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests a second.
    rate: f64,
    /// When the bucket is or was full but for one token.
    next: Instant,
    slowed_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(requests_per_second: u32) -> Pace {
        let full_rate = f64::from(requests_per_second.max(1));
        Pace { full_rate, state: Mutex::new(State { rate: full_rate, next: Instant::now(), slowed_at: None }) }
    }

    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let at = self.take_turn(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    fn take_turn(&self, now: Instant) -> Instant {
        let mut state = self.lock();
        let spacing = Duration::from_secs_f64(1.0 / state.rate);
        let earliest = now.checked_sub(spacing.mul_f64(BURST - 1.0)).unwrap_or(now);
        let at = state.next.max(earliest);
        state.next = at + spacing;
        at.max(now)
    }

    /// Stripe said that it was too much: half the rate, and nobody asks before `retry_after` is over.
    pub(super) fn slow_down(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.slowed_at.is_none_or(|at| now.duration_since(at) >= SAME_BURST) {
            state.rate = (state.rate / 2.0).max(LOWEST_RATE);
            state.slowed_at = Some(now);
        }
        if let Some(wait) = retry_after {
            state.next = state.next.max(now + wait);
        }
    }

    /// A good answer came.
    pub(super) fn speed_up(&self) {
        let mut state = self.lock();
        state.rate = (state.rate + self.full_rate * RECOVERY).min(self.full_rate);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(pace: &Pace, requests: u32) -> f64 {
        let began = Instant::now();
        for _ in 0..requests {
            pace.turn().await;
        }
        began.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate() {
        let pace = Pace::new(20);
        let took = seconds_for(&pace, 100).await;
        assert!((4.7..5.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_falls_once_a_burst_and_recovers() {
        let pace = Pace::new(20);
        for _ in 0..8 {
            pace.slow_down(None);
        }
        let took = seconds_for(&pace, 100).await;
        assert!((9.4..10.1).contains(&took), "half the rate: {took}");
        for _ in 0..50 {
            pace.speed_up();
        }
        let took = seconds_for(&pace, 100).await;
        assert!(took < 5.2, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_before_the_time_that_stripe_names() {
        let pace = Pace::new(1000);
        pace.slow_down(Some(Duration::from_secs(7)));
        let took = seconds_for(&pace, 1).await;
        assert!((7.0..7.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_comes_to_a_stand() {
        let pace = Pace::new(1);
        for _ in 0..100 {
            pace.slow_down(None);
            tokio::time::advance(SAME_BURST).await;
        }
        let took = seconds_for(&pace, 10).await;
        assert!(took <= 51.0, "{took}");
    }
}
