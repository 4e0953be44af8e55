//! Values that several commands take, each refused with what would do instead.

use std::num::NonZeroUsize;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// Of an operator's reason.
const REASON_CHARACTERS: usize = 500;

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

/// A rate, a duration or a factor: more than nothing, and nothing that arithmetic stumbles over.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1e-6..=1e9).contains(number));
    number.ok_or_else(|| "has to be a number from 0.000001 to 1000000000".to_owned())
}

/// A reason for whoever reads the ledger later, as long as its column takes.
pub fn reason(text: &str) -> Result<String, String> {
    if text.contains('\0') || text.chars().count() > REASON_CHARACTERS {
        return Err(format!("has to be a text of {REASON_CHARACTERS} characters at most"));
    }
    Ok(text.to_owned())
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

    #[test]
    fn a_rate_of_nothing_or_of_no_number_is_refused() {
        assert_eq!(positive("0.5"), Ok(0.5));
        for text in ["0", "-1", "1e-300", "1e300", "NaN", "inf", "fast"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_fits_its_column() {
        assert_eq!(reason("ticket 7"), Ok("ticket 7".to_owned()));
        assert!(reason(&"é".repeat(500)).is_ok() && reason(&"é".repeat(501)).is_err() && reason("a\0").is_err());
    }
}
