//! Fields that a decoder insists on, and times, in both providers' units.

use std::fmt;

use chrono::{DateTime, Utc};

use super::Value;

/// A required field that is missing or of the wrong JSON type. Names the place, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    path: String,
    problem: &'static str,
}

impl Unreadable {
    /// `path` counts from the object that is being decoded.
    pub fn new(path: impl Into<String>, problem: &'static str) -> Unreadable {
        Unreadable { path: path.into(), problem }
    }

    /// The field is not there, or null.
    pub fn missing(path: impl Into<String>) -> Unreadable {
        Unreadable::new(path, "missing")
    }

    /// The same, seen from an object that contains this one at `prefix`.
    pub fn within(mut self, prefix: &str) -> Unreadable {
        self.path = format!("{prefix}.{}", self.path);
        self
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.problem)
    }
}

/// Postgres' `text` keys are indexed whole; an index entry has to stay below 2,700 bytes. Stripe's ids have at most 255.
pub const LONGEST_ID: usize = 255;

// Within these years every sum and difference of days that the projection makes stays in the range of RFC 3339's
// four-digit years, which Postgres and every JSON reader understand.
const EARLIEST_SECOND: i64 = -2_208_988_800;
const LATEST_SECOND: i64 = 221_845_392_000;

/// A time of Stripe's, in seconds since the epoch, between the years 1900 and 9000.
pub fn readable_seconds(seconds: i64) -> Option<DateTime<Utc>> {
    let readable = (EARLIEST_SECOND..LATEST_SECOND).contains(&seconds);
    readable.then(|| DateTime::from_timestamp(seconds, 0)).flatten()
}

/// A time of Clerk's, in milliseconds since the epoch; below 1e11 (1973 in milliseconds) it is seconds.
pub fn readable_milliseconds(number: i64) -> Option<DateTime<Utc>> {
    if number < 100_000_000_000 {
        return readable_seconds(number);
    }
    readable_seconds(number.div_euclid(1000)).and_then(|_| DateTime::from_timestamp_millis(number))
}

impl<'a> Value<'a> {
    /// A string that can be an id: not empty, not longer than ids are.
    pub fn as_id(self) -> Option<String> {
        self.as_text().filter(|id| id.len() <= LONGEST_ID)
    }

    /// A reference: an id, or the object that it stands for.
    pub fn as_reference(self) -> Option<String> {
        self.as_id().or_else(|| self.get("id").and_then(Value::as_id))
    }

    /// A time in seconds.
    pub fn as_seconds(self) -> Option<DateTime<Utc>> {
        self.as_i64().and_then(readable_seconds)
    }

    /// A time as text, which thin events write.
    pub fn as_rfc3339(self) -> Option<DateTime<Utc>> {
        let time = DateTime::parse_from_rfc3339(&self.as_str()?).ok()?.to_utc();
        readable_seconds(time.timestamp()).map(|_| time)
    }

    /// A time in milliseconds, or in seconds where that is what it must be.
    pub fn as_milliseconds(self) -> Option<DateTime<Utc>> {
        self.as_i64().and_then(readable_milliseconds)
    }
}

/// A required string that says something.
pub fn required_text(value: Option<Value<'_>>, path: &str) -> Result<String, Unreadable> {
    let text = value.ok_or_else(|| Unreadable::missing(path))?.as_str();
    let text = text.ok_or_else(|| Unreadable::new(path, "not a string"))?;
    if text.is_empty() { Err(Unreadable::new(path, "empty")) } else { Ok(text.into_owned()) }
}

/// A required id. What no column can hold has become U+FFFD in it, and two such ids could be one: no provider's ids have any.
pub fn required_id(value: Option<Value<'_>>, path: &str) -> Result<String, Unreadable> {
    let id = required_text(value, path)?;
    if id.contains(char::REPLACEMENT_CHARACTER) {
        return Err(Unreadable::new(path, "not an id"));
    }
    if id.len() <= LONGEST_ID { Ok(id) } else { Err(Unreadable::new(path, "too long for an id")) }
}
