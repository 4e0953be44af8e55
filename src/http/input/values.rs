//! Single values of a request, each with the bounds of the column that it is for: what Postgres would refuse never gets there.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use serde::de::{Deserialize, Deserializer, Error};

/// Text of 1 to `MAX` characters.
pub(in crate::http) fn text<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<Option<String>, D::Error> {
    let read = Option::<String>::deserialize(deserializer)?;
    read.map(|text| check_text(text, MAX)).transpose().map_err(D::Error::custom)
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

/// Text of 1 to `max` characters.
pub(in crate::http) fn check_text(text: String, max: usize) -> Result<String, Unfit> {
    if text.is_empty() || text.chars().count() > max || text.contains('\0') { Err(Unfit { max }) } else { Ok(text) }
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
