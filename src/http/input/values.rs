//! Single values of a request, each with the bounds of the column that it is for: what Postgres would refuse never gets there.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use serde::de::{Deserialize, Deserializer, Error};

/// Text of 1 to `MAX` characters.
pub(in crate::http) fn text<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<Option<String>, D::Error> {
    let read = Option::<String>::deserialize(deserializer)?;
    if let Some(text) = &read {
        check_text(text, MAX).map_err(D::Error::custom)?;
    }
    Ok(read)
}

/// The same, where it may not be absent.
pub(in crate::http) fn required_text<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let read = String::deserialize(deserializer)?;
    check_text(&read, MAX).map_err(D::Error::custom)?;
    Ok(read)
}

/// A change of a text that cannot be cleared: absent keeps.
pub(in crate::http) fn text_kept<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    required_text::<D, MAX>(deserializer).map(Some)
}

/// A change of anything that cannot be cleared: absent keeps.
pub(in crate::http) fn kept<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let read = Option::<T>::deserialize(deserializer)?;
    read.map(Some).ok_or_else(|| D::Error::custom("cannot be null"))
}

/// A change of a text: absent keeps, null clears.
pub(in crate::http) fn text_change<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    text::<D, MAX>(deserializer).map(Some)
}

/// A change of anything that needs no check: absent keeps, null clears.
pub(in crate::http) fn change<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// An instant of a year with four digits.
pub(in crate::http) fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let read = Option::<String>::deserialize(deserializer)?;
    read.map(|text| parse_instant(&text)).transpose().map_err(D::Error::custom)
}

/// A change of an instant.
pub(in crate::http) fn instant_change<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<DateTime<Utc>>>, D::Error> {
    instant(deserializer).map(Some)
}

/// A whole number from 0 on that fits the column.
pub(in crate::http) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let read = Option::<Whole>::deserialize(deserializer)?;
    read.map(check_count).transpose().map_err(D::Error::custom)
}

/// A change of such a number: absent keeps, null clears.
pub(in crate::http) fn count_change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i32>>, D::Error> {
    count(deserializer).map(Some)
}

/// A change of such a number that cannot be cleared: absent keeps.
pub(in crate::http) fn count_kept<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    check_count(Whole::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn check_count(Whole(number): Whole) -> Result<i32, String> {
    let fits = i32::try_from(number).ok().filter(|number| *number >= 0);
    fits.ok_or_else(|| format!("has to be a whole number from 0 to {}", i32::MAX))
}

/// A whole number however it is written: to JSON, 5.0 is one.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Whole(pub(in crate::http) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // Every number that is kept fits 32 bits, which a float holds exactly.
        let written_as_float = || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= f64::from(u32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within 32 bits")]
        let whole = number.as_i64().or_else(|| written_as_float().map(|float| float as i64));
        whole.map(Whole).ok_or_else(|| D::Error::custom("has to be a whole number"))
    }
}

/// Text of 1 to `max` characters.
pub(in crate::http) fn check_text(text: &str, max: usize) -> Result<(), Unfit> {
    if text.is_empty() || text.chars().count() > max || text.contains('\0') { Err(Unfit { max }) } else { Ok(()) }
}

/// An instant of a year with four digits, as RFC 3339 writes it.
pub(in crate::http) fn parse_instant(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let parsed = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    let in_range = parsed.ok().filter(|at| (1..=9999).contains(&at.year()));
    in_range.ok_or("has to be an instant such as 2026-03-10T12:00:00Z")
}

/// A text that does not fit.
#[derive(Debug)]
pub(in crate::http) struct Unfit {
    max: usize,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "has to have 1 to {} characters, and no NUL", self.max)
    }
}
