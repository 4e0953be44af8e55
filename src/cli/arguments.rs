//! Values that several commands take, each refused with what would do instead.

use std::num::NonZeroUsize;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// An instant with its zone, or a day, which begins at midnight in UTC.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let day = text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    day.map_err(|_unreadable| "has to be a time such as 2026-03-01T00:00:00Z, or a day such as 2026-03-01".to_owned())
}

/// A number of things to do at a time, or of times to do something.
pub fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_unreadable| "has to be a whole number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_a_zone_or_are_days() {
        let at = |text: &str| instant(text).ok().map(|at| at.to_rfc3339());
        assert_eq!(at("2026-03-01T02:00:00+02:00").as_deref(), Some("2026-03-01T00:00:00+00:00"));
        assert_eq!(at("2026-03-01").as_deref(), Some("2026-03-01T00:00:00+00:00"));
        for text in ["", "yesterday", "2026-13-01", "2026-03-01T00:00:00", "1772323200"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_at_a_time_is_refused() {
        assert_eq!(at_least_one("3").map(NonZeroUsize::get), Ok(3));
        for text in ["0", "-1", "many", ""] {
            assert!(at_least_one(text).is_err(), "{text}");
        }
    }
}
