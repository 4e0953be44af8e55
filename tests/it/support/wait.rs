//! Waiting for a condition, with a deadline instead of a guess.

use std::time::{Duration, Instant};

/// Long enough for the slowest machine; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition holds; panics with `what` when it does not.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
