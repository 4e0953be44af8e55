//! Pages of a list: their size, and the cursor that leads from one to the next. A cursor is opaque, names its list, and holds
//! where the page before ended, so that the millionth row costs what the first does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::problem::Problem;

/// Rows of a page when the caller does not say.
const DEFAULT_LIMIT: u16 = 50;

/// Most rows of a page.
const MAX_LIMIT: u16 = 200;

/// Longest cursor that is read: far more than any of ours has.
const MAX_CURSOR_BYTES: usize = 1024;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    /// For the next page; `null` on the last one.
    pub(super) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Of one row more than was asked for, if there are that many.
    pub(super) fn of(mut rows: Vec<T>, limit: Limit, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
        let is_last = rows.len() <= usize::from(limit.0);
        rows.truncate(usize::from(limit.0));
        let next_cursor = rows.last().filter(|_| !is_last).map(|row| cursor(row).encode());
        Page { data: rows, next_cursor }
    }
}

/// How many rows a page has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(u16);

impl Limit {
    /// What to ask the database for: one more tells whether there is a next page.
    pub(super) fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Limit(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = u16::deserialize(deserializer)?;
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(Limit(limit));
        }
        Err(D::Error::custom(format_args!("has to be a whole number from 1 to {MAX_LIMIT}")))
    }
}

/// Where a page ended: the list, what it is ordered by (microseconds or a position), and the id that decides among equals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor(String, i64, String);

impl Cursor {
    /// After a row that is ordered by time.
    pub(super) fn at(list: &str, at: DateTime<Utc>, id: impl Into<String>) -> Cursor {
        Cursor(list.to_owned(), at.timestamp_micros(), id.into())
    }

    /// After a row that is ordered by a number.
    pub(super) fn position(list: &str, position: i64, id: impl Into<String>) -> Cursor {
        Cursor(list.to_owned(), position, id.into())
    }

    /// Reads one of that list.
    pub(super) fn read(text: Option<&str>, list: &str) -> Result<Option<Cursor>, Problem> {
        let Some(text) = text else { return Ok(None) };
        let bytes = (text.len() <= MAX_CURSOR_BYTES).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
        let cursor = cursor.filter(|cursor| cursor.0 == list && !cursor.2.contains('\0'));
        cursor.map(Some).ok_or_else(malformed)
    }

    /// The time and the id of a row.
    pub(super) fn time_and_id(&self) -> Result<(DateTime<Utc>, Uuid), Problem> {
        Ok((self.time()?, self.uuid()?))
    }

    /// The time and the text that decides among equals.
    pub(super) fn time_and_text(&self) -> Result<(DateTime<Utc>, String), Problem> {
        Ok((self.time()?, self.2.clone()))
    }

    /// The position and the id of a row.
    pub(super) fn position_and_id(&self) -> Result<(i32, Uuid), Problem> {
        Ok((i32::try_from(self.1).map_err(|_| malformed())?, self.uuid()?))
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn time(&self) -> Result<DateTime<Utc>, Problem> {
        use chrono::Datelike;
        let at = DateTime::from_timestamp_micros(self.1).filter(|at| (1..=9999).contains(&at.year()));
        at.ok_or_else(malformed)
    }

    fn uuid(&self) -> Result<Uuid, Problem> {
        self.2.parse().map_err(|_| malformed())
    }
}

fn malformed() -> Problem {
    Problem::invalid("cursor", "is none that this list has given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_list_alone() {
        let at: DateTime<Utc> = "2026-03-10T12:00:00.123456Z".parse().expect("an instant");
        let text = Cursor::at("jobs", at, Uuid::max()).encode();
        let read = Cursor::read(Some(&text), "jobs").expect("ours").expect("one");
        assert_eq!(read.time_and_id().expect("both"), (at, Uuid::max()));
        let hostile = |value: &str| URL_SAFE_NO_PAD.encode(value);
        for wrong in [
            text.clone() + "A",
            text.to_uppercase(),
            "' or 1=1 --".to_owned(),
            "x".repeat(5000),
            String::new(),
            Cursor::at("campaigns", at, Uuid::max()).encode(),
            hostile("[\"jobs\",1]"),
            hostile("[\"jobs\",1.5,\"a\"]"),
            hostile("[\"jobs\",1,\"a\\u0000\"]"),
        ] {
            assert!(Cursor::read(Some(&wrong), "jobs").is_err(), "{wrong}");
        }
        for inner in ["[\"jobs\",1,\"no uuid\"]", "[\"jobs\",9223372036854775807,\"00000000-0000-0000-0000-000000000000\"]"] {
            let read = Cursor::read(Some(&hostile(inner)), "jobs").expect("its form is right").expect("one");
            assert!(read.time_and_id().is_err(), "{inner}");
        }
    }
}
