//! The one place that reads the time. Everything else is given it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};

/// Tells the time: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Microseconds since the epoch, set by its owner.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still at `now` until [`Clock::set`].
    pub fn manual(now: DateTime<Utc>) -> Clock {
        Clock::Manual(Arc::new(AtomicI64::new(now.timestamp_micros())))
    }

    /// Moves a manual clock; the system's cannot be moved.
    pub fn set(&self, now: DateTime<Utc>) {
        if let Clock::Manual(micros) = self {
            micros.store(now.timestamp_micros(), Ordering::SeqCst);
        }
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "this is the home of the clock")]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Clock::System => Utc::now(),
            Clock::Manual(micros) => DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap_or_default(),
        }
    }
}
