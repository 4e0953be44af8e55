//! What Stripe answered, and when that was true.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::ApiError;

/// An object as Stripe sent it: the text itself, so that nothing is lost on the way to the decoder.
#[derive(Clone, Debug)]
pub struct Read {
    pub text: String,
    /// When the object looked like this at the latest: see [`true_at`].
    pub as_of: DateTime<Utc>,
    pub api_version: Option<String>,
}

/// A whole answer with status 2xx.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub path: String,
    pub body: Bytes,
    pub as_of: DateTime<Utc>,
    pub api_version: Option<String>,
}

impl Answer {
    pub(super) fn text(&self) -> Result<&str, ApiError> {
        std::str::from_utf8(&self.body).map_err(|_| ApiError::Unreadable { path: self.path.clone() })
    }

    pub(super) fn read_of(&self, text: &str) -> Read {
        Read { text: text.to_owned(), as_of: self.as_of, api_version: self.api_version.clone() }
    }

    pub(super) fn into_read(self) -> Result<Read, ApiError> {
        let text = self.text()?.to_owned();
        Ok(Read { text, as_of: self.as_of, api_version: self.api_version })
    }
}

/// The instant that an answer may claim: no later than our clock when the request began, and no later than Stripe's when it
/// arrived there. Whichever clock is wrong, an event that happened meanwhile is newer.
pub(super) fn true_at(began: DateTime<Utc>, date: Option<DateTime<Utc>>, round_trip: TimeDelta) -> DateTime<Utc> {
    date.map_or(began, |date| began.min(date - round_trip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap_or_default()
    }

    #[test]
    fn the_earlier_of_both_clocks_counts() {
        let round_trip = TimeDelta::milliseconds(1500);
        assert_eq!(true_at(at(100), Some(at(103)), round_trip), at(100), "ours is right or slow");
        assert_eq!(true_at(at(130), Some(at(103)), round_trip), at(103) - round_trip, "ours is fast");
        assert_eq!(true_at(at(70), Some(at(103)), round_trip), at(70), "ours is slow");
        assert_eq!(true_at(at(100), None, round_trip), at(100));
    }
}
